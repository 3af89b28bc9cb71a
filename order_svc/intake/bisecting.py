"""Finds the messages that make a whole batch fail in the database, and writes the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from order_svc.intake.writer import OrderWriter, UnplacedReservations
from order_svc.intake.written import WrittenBatch
from seckill.errors import DependencyUnavailable
from seckill.v1.events_pb2 import OrderReserved

# What the database says of values and rows. A missing table or right is no message's fault: it ends
# the process, and moves nothing to the dead letters.
REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, UnplacedReservations)


@dataclass
class BisectResult:
    """What became of a batch.

    Attributes:
        batches: the parts that were written, each in a transaction of its own.
        refused: events that the database does not take, with its error.
    """

    batches: list[WrittenBatch] = field(default_factory=list)
    refused: list[tuple[OrderReserved, Exception]] = field(default_factory=list)


async def write_bisecting(
    writer: OrderWriter, events: Sequence[OrderReserved], *, refused_max: int
) -> BisectResult:
    """Write a batch; if the database refuses it, halve it until the bad events stand alone.

    Args:
        writer: writes.
        events: as for `OrderWriter.write`.
        refused_max: beyond so many the fault is not in the messages. It bounds the transactions,
            too: each bad event costs two for every halving.

    Raises:
        DependencyUnavailable: the database does not answer, or refuses too many.
    """
    done = BisectResult()
    parts = [events]
    while parts:
        part = parts.pop()
        try:
            done.batches.append(await writer.write(part))
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
