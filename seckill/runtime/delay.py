"""The delay set: order numbers by the time at which their payment windows end.

It is the sorted set `seckill:delay`; in a cluster it may be several sets, so that no node has all
of it (SECKILL_DELAY_SHARDS): an order is in the one that its number chooses. order_svc adds orders,
rollback_svc claims and removes them. It is a fast hint: Postgres has the truth. Scores
are Unix milliseconds, converted only here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING
from zlib import crc32

from seckill.runtime import keyspace
from seckill.runtime.redis_client import Command, redis_faults, send_all

if TYPE_CHECKING:
    import redis.asyncio

CLAIM = resources.files(__package__).joinpath("delay_claim.lua").read_text("utf-8")


def delay_key() -> str:
    """Return the name of the set, or of the first one."""
    return f"{keyspace.prefix}:delay"


def delay_keys(shards: int) -> list[str]:
    """Return the names of so many sets, which a cluster spreads."""
    return [delay_key(), *(f"{delay_key()}:{{{number}}}" for number in range(1, shards))]


@dataclass(frozen=True, slots=True)
class Claim:
    """Orders that only the caller may settle until the lease ends.

    Attributes:
        order_nos: their numbers; those of one set the earliest due first.
        now_s: Unix time by the clock of Redis, which decides what is due; of several the earliest.
    """

    order_nos: list[str]
    now_s: float


class DelaySet:
    """Reads and writes the delay set. Raises DependencyUnavailable if Redis does not answer."""

    def __init__(self, client: "redis.asyncio.Redis", *, key: str = "", shards: int = 1) -> None:
        """Describe it.

        Args:
            key: another than the mesh's.
            shards: sets that it consists of.
        """
        self._redis = client
        self._keys = [key] if key else delay_keys(shards)
        # Whose turn it is to be asked first what is due.
        self._turn = 0
        self._claim = client.register_script(CLAIM)

    async def add(self, expire_times_s: Mapping[str, float]) -> None:
        """Add orders, or move those that are there: order number → Unix time in seconds."""
        commands: list[Command] = []
        for key, numbers in self._by_key(expire_times_s).items():
            command: list[str | int] = ["ZADD", key]
            for number in numbers:
                command += (int(expire_times_s[number] * 1000), number)
            commands.append(tuple(command))
        if commands:
            with redis_faults():
                await send_all(self._redis, commands)

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """Claim up to `limit` orders that are due, at most 1,024.

        For `lease_s` no other replica gets them. Then they are due again unless they were removed
        or moved, also if the reply to the claim was lost.
        """
        self._turn = (self._turn + 1) % len(self._keys)
        claimed: list[str] = []
        times_ms: list[int] = []
        with redis_faults():
            for key in (*self._keys[self._turn :], *self._keys[: self._turn]):
                args = [limit - len(claimed), int(lease_s * 1000)]
                now_ms, found = await self._claim(keys=[key], args=args)
                times_ms.append(now_ms)
                claimed += [number.decode() for number in found]
                if len(claimed) == limit:
                    break
        return Claim(claimed, min(times_ms) / 1000)

    async def remove(self, order_nos: Iterable[str]) -> None:
        """Remove orders; a number that is not there is ignored."""
        with redis_faults():
            for key, numbers in self._by_key(order_nos).items():
                await self._redis.zrem(key, *numbers)

    async def those_in(self, order_nos: Sequence[str]) -> list[str]:
        """Return those of the orders that are in the set, claimed or not."""
        return list(await self.due_times_s(order_nos))

    async def due_times_s(self, order_nos: Sequence[str]) -> dict[str, float]:
        """Return the Unix times at which those of the orders are due that are in the set."""
        found: dict[str, float] = {}
        with redis_faults():
            for key, numbers in self._by_key(order_nos).items():
                scores = await self._redis.zmscore(key, numbers)
                for number, score in zip(numbers, scores, strict=True):
                    if score is not None:
                        found[number] = float(score) / 1000
        return {number: found[number] for number in order_nos if number in found}

    async def counts(self, *, now_s: float) -> tuple[int, int]:
        """Return (orders that are due and not claimed, all orders)."""
        due, total = 0, 0
        with redis_faults():
            for key in self._keys:
                due += int(await self._redis.zcount(key, "-inf", int(now_s * 1000)))
                total += int(await self._redis.zcard(key))
        return due, total

    def _by_key(self, order_nos: Iterable[str]) -> dict[str, list[str]]:
        """Return the numbers by the set that each belongs to."""
        found: dict[str, list[str]] = {}
        for number in order_nos:
            at = crc32(number.encode()) % len(self._keys) if len(self._keys) > 1 else 0
            found.setdefault(self._keys[at], []).append(number)
        return found
