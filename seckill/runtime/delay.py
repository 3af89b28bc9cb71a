"""The delay set: order numbers by the time at which their payment windows end.

It is the sorted set `seckill:delay`. order_svc adds orders, rollback_svc claims and removes them.
It is a fast hint: Postgres has the truth. Scores are Unix milliseconds, converted only here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from seckill.runtime import keyspace
from seckill.runtime.redis_client import redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio

CLAIM = resources.files(__package__).joinpath("delay_claim.lua").read_text("utf-8")


def delay_key() -> str:
    """Return the name of the set."""
    return f"{keyspace.prefix}:delay"


@dataclass(frozen=True, slots=True)
class Claim:
    """Orders that only the caller may settle until the lease ends.

    Attributes:
        order_nos: their numbers, the earliest due first.
        now_s: Unix time by the clock of Redis, which decides what is due.
    """

    order_nos: list[str]
    now_s: float


class DelaySet:
    """Reads and writes the delay set. Raises DependencyUnavailable if Redis does not answer."""

    def __init__(self, client: "redis.asyncio.Redis", *, key: str = "") -> None:
        """`key`: another than the mesh's."""
        self._redis = client
        self._key = key or delay_key()
        self._claim = client.register_script(CLAIM)

    async def add(self, expire_times_s: Mapping[str, float]) -> None:
        """Add orders, or move those that are there: order number → Unix time in seconds."""
        if not expire_times_s:
            return
        command: list[str | int] = ["ZADD", self._key]
        for number, when_s in expire_times_s.items():
            command += (int(when_s * 1000), number)
        with redis_faults():
            await send_all(self._redis, [tuple(command)])

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """Claim up to `limit` orders that are due, at most 1,024.

        For `lease_s` no other replica gets them. Then they are due again unless they were removed
        or moved, also if the reply to the claim was lost.
        """
        with redis_faults():
            now_ms, found = await self._claim(keys=[self._key], args=[limit, int(lease_s * 1000)])
        return Claim([number.decode() for number in found], now_ms / 1000)

    async def remove(self, order_nos: Iterable[str]) -> None:
        """Remove orders; a number that is not there is ignored."""
        numbers = list(order_nos)
        if numbers:
            with redis_faults():
                await self._redis.zrem(self._key, *numbers)

    async def those_in(self, order_nos: Sequence[str]) -> list[str]:
        """Return those of the orders that are in the set, claimed or not."""
        return list(await self.due_times_s(order_nos))

    async def due_times_s(self, order_nos: Sequence[str]) -> dict[str, float]:
        """Return the Unix times at which those of the orders are due that are in the set."""
        if not order_nos:
            return {}
        with redis_faults():
            scores = await self._redis.zmscore(self._key, list(order_nos))
        return {
            number: float(score) / 1000
            for number, score in zip(order_nos, scores, strict=True)
            if score is not None
        }

    async def counts(self, *, now_s: float) -> tuple[int, int]:
        """Return (orders that are due and not claimed, all orders)."""
        with redis_faults():
            due = await self._redis.zcount(self._key, "-inf", int(now_s * 1000))
            return int(due), int(await self._redis.zcard(self._key))
