"""The sorted set `seckill:delay`: order numbers scored by the time their payment is over.

order_svc adds, rollback_svc scans and removes. It is a fast hint: the database has the truth.
Scores are Unix milliseconds, converted here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from seckill.redis_client import redis_faults

if TYPE_CHECKING:
    import redis.asyncio

KEY = "seckill:delay"


class DelaySet:
    """Orders by the time their payment is over. Raises DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis", *, key: str = KEY) -> None:
        self._redis = client
        self._key = key

    async def add(self, expire_times_s: Mapping[str, float]) -> None:
        """Add orders, or move them: number → Unix time in seconds."""
        if not expire_times_s:
            return
        scores = {number: int(when_s * 1000) for number, when_s in expire_times_s.items()}
        with redis_faults():
            await self._redis.zadd(self._key, scores)

    async def due(self, *, now_s: float, limit: int) -> list[str]:
        """Up to `limit` orders whose time has come, earliest first."""
        with redis_faults():
            found: list[Any] = await self._redis.zrange(
                self._key, "-inf", int(now_s * 1000), byscore=True, offset=0, num=limit
            )
        return [number.decode() for number in found]

    async def remove(self, order_nos: Iterable[str]) -> None:
        """Remove orders; those that are not there do not matter."""
        numbers = list(order_nos)
        if numbers:
            with redis_faults():
                await self._redis.zrem(self._key, *numbers)

    async def counts(self, *, now_s: float) -> tuple[int, int]:
        """(orders due, all orders)."""
        with redis_faults():
            due = await self._redis.zcount(self._key, "-inf", int(now_s * 1000))
            return int(due), int(await self._redis.zcard(self._key))
