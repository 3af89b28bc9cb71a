"""The projection of orders in Redis, which polling reads: `seckill:order:{number}`.

It is written after the commit, and may be lost: the database has the truth.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from order_svc.settings import OrderSettings
from seckill.runtime import keyspace
from seckill.runtime.redis_client import Command, redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio


def key_of(order_no: str) -> str:
    """Return an order's key; the braces are literal and spread orders over a cluster."""
    return f"{keyspace.prefix}:order:{{{order_no}}}"


class OrderProjection:
    """Serialized orders by number. Raises DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis", settings: OrderSettings) -> None:
        self._redis = client
        self._final_ttl_s = int(settings.order_projection_ttl_s)
        self._pending_ttl_s = int(settings.order_projection_pending_ttl_s)

    async def read(self, order_nos: Sequence[str]) -> list[bytes | None]:
        """Return what was written last for each number, in order; None if there is nothing."""
        with redis_faults():
            found = await self._redis.mget(map(key_of, order_nos))
        return cast("list[bytes | None]", found)

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
