"""The sorted set `seckill:delay`: order numbers scored by the time their payment is over.

order_svc adds, rollback_svc claims and removes. It is a fast hint: the database has the truth.
Scores are Unix milliseconds, converted here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from seckill.redis_client import redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio

KEY = "seckill:delay"
CLAIM = resources.files(__package__).joinpath("delay_claim.lua").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Claim:
    """Orders that are the caller's to settle.

    Attributes:
        order_nos: their numbers, those that were due first at the beginning.
        now_s: Unix time by the clock of Redis, which says what is due.
    """

    order_nos: list[str]
    now_s: float


class DelaySet:
    """Orders by the time their payment is over. Raises DependencyUnavailable without Redis."""

    def __init__(self, client: "redis.asyncio.Redis", *, key: str = KEY) -> None:
        self._redis = client
        self._key = key
        self._claim = client.register_script(CLAIM)

    async def add(self, expire_times_s: Mapping[str, float]) -> None:
        """Add orders, or move them: number → Unix time in seconds."""
        if not expire_times_s:
            return
        command: list[str | int] = ["ZADD", self._key]
        for number, when_s in expire_times_s.items():
            command += (int(when_s * 1000), number)
        with redis_faults():
            await send_all(self._redis, [tuple(command)])

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """Take up to `limit` orders whose time has come, at most 1,024.

        For `lease_s` nobody else gets them; then they are due again, unless they were removed or
        moved. Orders of a claim whose reply is lost come with the end of the lease.
        """
        with redis_faults():
            now_ms, found = await self._claim(keys=[self._key], args=[limit, int(lease_s * 1000)])
        return Claim([number.decode() for number in found], now_ms / 1000)

    async def remove(self, order_nos: Iterable[str]) -> None:
        """Remove orders; those that are not there do not matter."""
        numbers = list(order_nos)
        if numbers:
            with redis_faults():
                await self._redis.zrem(self._key, *numbers)

    async def counts(self, *, now_s: float) -> tuple[int, int]:
        """(orders that are due and that nobody has claimed, all orders)."""
        with redis_faults():
            due = await self._redis.zcount(self._key, "-inf", int(now_s * 1000))
            return int(due), int(await self._redis.zcard(self._key))
