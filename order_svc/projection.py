"""The projection of orders in Redis, which polling reads: `seckill:order:{number}`.

It follows the database, never leads it: it is written after the commit, and may be lost.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from order_svc.settings import OrderSettings
from seckill.redis_client import Command, redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio


def key_of(order_no: str) -> str:
    """Its key; the braces are literal and spread orders over a cluster."""
    return f"seckill:order:{{{order_no}}}"


class OrderProjection:
    """Serialized orders by number. Raises DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis", settings: OrderSettings) -> None:
        self._redis = client
        self._final_ttl_s = int(settings.order_projection_ttl_s)
        self._pending_ttl_s = int(settings.order_projection_pending_ttl_s)

    async def read(self, order_nos: Sequence[str]) -> list[bytes | None]:
        """Orders as they were written last, in the order asked for; None where there is none."""
        with redis_faults():
            found = await self._redis.mget(map(key_of, order_nos))
        return cast("list[bytes | None]", found)

    async def write(self, orders: Iterable[tuple[str, str, bytes]]) -> None:
        """Put orders that have just reached a state: (number, status, serialized Order) each."""
        await self._put(orders, ())

    async def fill(self, orders: Iterable[tuple[str, str, bytes]]) -> None:
        """Put orders that were read a while ago; what is there may be newer and stays."""
        await self._put(orders, ("NX",))

    async def _put(self, orders: Iterable[tuple[str, str, bytes]], mode: tuple[str, ...]) -> None:
        # One command an order, not one script: their keys are in different slots of a cluster.
        ttl_s = {"pending": self._pending_ttl_s}
        commands: list[Command] = [
            ("SET", key_of(number), encoded, "EX", ttl_s.get(status, self._final_ttl_s), *mode)
            for number, status, encoded in orders
        ]
        with redis_faults():
            await send_all(self._redis, commands)
