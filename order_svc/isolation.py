"""Finds the messages that make a whole batch fail in the database, so that the others get in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from order_svc.intake import LeftOver, OrderIntake
from order_svc.model import WrittenBatch
from seckill.errors import DependencyUnavailable
from seckill.v1.events_pb2 import OrderReserved

# What the database says of values and rows. A missing table or right is nobody's message's fault:
# it ends the process, and moves nothing to the dead letters.
REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, LeftOver)


@dataclass
class Isolated:
    """What became of a batch.

    Attributes:
        batches: the parts that were written, each in a transaction of its own.
        refused: reservations that the database does not take, with what it said.
    """

    batches: list[WrittenBatch] = field(default_factory=list)
    refused: list[tuple[OrderReserved, Exception]] = field(default_factory=list)


async def write_isolated(
    intake: OrderIntake, events: Sequence[OrderReserved], *, refused_max: int
) -> Isolated:
    """Write a batch; where the database refuses it, halve it until the bad ones stand alone.

    Args:
        intake: writes.
        events: as for `OrderIntake.write`.
        refused_max: beyond so many the fault is not in the messages. It bounds the transactions,
            too: each bad one costs two for every halving.

    Raises:
        DependencyUnavailable: the database is away, or refuses too many.
    """
    done = Isolated()
    parts = [events]
    while parts:
        part = parts.pop()
        try:
            done.batches.append(await intake.write(part))
        except REFUSALS as error:
            if len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
                continue
            done.refused.append((part[0], error))
            if len(done.refused) > refused_max:
                raise DependencyUnavailable(
                    f"the database refuses more than {refused_max} messages of a batch"
                ) from error
    return done
