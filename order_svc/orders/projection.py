"""The projection of orders in Redis, which polling reads: `seckill:order:{number}`.

It is written after the commit, and may be lost: the database has the truth. Replicas answer polls
if the settings say so.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from order_svc.settings import OrderSettings
from seckill.runtime import keyspace
from seckill.runtime.redis_client import Command, redis_faults, send_all
from seckill.runtime.redis_reads import PrimaryReads

if TYPE_CHECKING:
    import redis.asyncio


def key_of(order_no: str) -> str:
    """Return an order's key; the braces are literal and spread orders over a cluster."""
    return f"{keyspace.prefix}:order:{{{order_no}}}"


class Projected(NamedTuple):
    """What the projection has of some orders.

    Attributes:
        orders: serialized, in the order of the question; None for each that it does not have.
        age_s: greatest possible age of what a replica has told; None if all is of the primary.
    """

    orders: list[bytes | None]
    age_s: float | None


class OrderProjection:
    """Serialized orders by number. Raises DependencyUnavailable without Redis."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        settings: OrderSettings,
        reads: PrimaryReads | None = None,
    ) -> None:
        """`reads`: asked by polls before the primary is; None leaves them to the primary."""
        self._redis = client
        self._reads = reads or PrimaryReads()
        self._final_ttl_s = int(settings.order_projection_ttl_s)
        self._pending_ttl_s = int(settings.order_projection_pending_ttl_s)

    async def read(self, order_nos: Sequence[str]) -> Projected:
        """Return what was written for each number; what replicas lack the primary tells."""
        orders, age_s = await self._reads.values([key_of(number) for number in order_nos])
        lacking = [index for index, order in enumerate(orders) if order is None]
        if lacking:
            with redis_faults():
                found = await self._redis.mget([key_of(order_nos[index]) for index in lacking])
            for index, order in zip(lacking, found, strict=True):
                orders[index] = order
        return Projected(orders, age_s if len(lacking) < len(orders) else None)

    async def confirm(self, order_nos: Iterable[str]) -> None:
        """Return once no poll is told what was so before the last write of these. Never fails."""
        await self._reads.confirm(map(key_of, order_nos))

    async def write(self, orders: Iterable[tuple[str, str, bytes]]) -> None:
        """Write orders that have just reached a state: (number, status, serialized Order) each."""
        await self._set(orders, ())

    async def fill(self, orders: Iterable[tuple[str, str, bytes]]) -> None:
        """Write orders that were read a while ago, unless the projection has them already."""
        await self._set(orders, ("NX",))

    async def remove(self, order_nos: Iterable[str]) -> None:
        """Remove orders, which a full Redis does too: polls ask the database then."""
        with redis_faults():
            await send_all(self._redis, [("DEL", key_of(number)) for number in order_nos])

    async def _set(self, orders: Iterable[tuple[str, str, bytes]], mode: tuple[str, ...]) -> None:
        # One command for each order, not one script: their keys are in different cluster slots.
        ttl_s = {"pending": self._pending_ttl_s}
        commands: list[Command] = [
            ("SET", key_of(number), encoded, "EX", ttl_s.get(status, self._final_ttl_s), *mode)
            for number, status, encoded in orders
        ]
        with redis_faults():
            await send_all(self._redis, commands)
