"""The outbox streams as the relay sees them: read, take over, remove, measure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from inventory_svc.keys import ENTRY_FIELD, RELAY_GROUP, SKUS, queue_key
from inventory_svc.outbox import Entry, number_in
from seckill.errors import DependencyUnavailable
from seckill.redis_client import redis_faults, send_all

# Entries asked of each stream at least, however many streams share a pass.
ENTRIES_MIN = 16
# Ids in one XACK and XDEL.
REMOVE_CHUNK = 1_000
# Entries asked for at once where all of an outbox are looked at: its cap bounds how often.
NUMBERS_CHUNK = 1_000
# Entries never delivered to any relay; entries pending with this one.
_NEW, _PENDING = ">", "0"
log = structlog.get_logger()


@dataclass(slots=True)
class ReadResult:
    """Entries read, and what that says about their streams."""

    entries: list[Entry] = field(default_factory=list)
    # Skus whose streams have more to read.
    more: list[str] = field(default_factory=list)
    # Skus of which nothing is pending with us once these entries are removed.
    finishing: list[str] = field(default_factory=list)


class OutboxStreams:
    """One consumer of the group `relay` on each outbox. DependencyUnavailable without Redis."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        consumer: str,
        entries_max: int,
        claim_idle_s: float,
    ) -> None:
        """Wire it.

        Args:
            consumer: name of this process, unlike that of any other.
            entries_max: entries read at once, from all streams together.
            claim_idle_s: how long an entry is left to the relay that has read it.
        """
        self._redis = client
        self._consumer = consumer
        self._entries_max = entries_max
        self._claim_idle_ms = int(claim_idle_s * 1000)
        # Streams whose entries may be pending with us: they are read again from the first on.
        self._unfinished: set[str] = set()
        self._claim_cursors: dict[str, bytes] = {}

    async def skus(self) -> list[str]:
        """Skus that have an outbox, sorted."""
        with redis_faults():
            members: Any = await self._redis.smembers(SKUS)
        return sorted(member.decode() for member in members)

    async def read(self, skus: Sequence[str]) -> ReadResult:
        """Up to about `entries_max` entries: what we have left unfinished, else new ones."""
        found = ReadResult()
        unfinished = [sku for sku in skus if sku in self._unfinished]
        if unfinished:
            await self._read(unfinished, _PENDING, found)
        left = {entry.sku for entry in found.entries}
        await self._read([sku for sku in skus if sku not in left], _NEW, found)
        return found

    async def _read(self, skus: Sequence[str], origin: str, found: ReadResult) -> None:
        # Before the command is sent: its reply may be lost, or we be cancelled.
        self._unfinished.update(skus)
        count = self._count(skus)
        pipeline = self._redis.pipeline(transaction=False)
        for sku in skus:
            pipeline.xreadgroup(RELAY_GROUP, self._consumer, {queue_key(sku): origin}, count=count)
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        for sku, reply in zip(skus, replies, strict=True):
            if isinstance(reply, Exception):
                await self._recover(sku, reply)
                continue
            entries = _entries(sku, reply[0][1]) if reply else []
            found.entries += entries
            if len(entries) == count:
                found.more.append(sku)
            if origin == _NEW or len(entries) < count:
                found.finishing.append(sku)

    async def claim(self, skus: Sequence[str]) -> list[Entry]:
        """Entries that a relay has left unfinished for too long; they are ours from now on."""
        pipeline = self._redis.pipeline(transaction=False)
        for sku in skus:
            pipeline.xautoclaim(
                queue_key(sku),
                RELAY_GROUP,
                self._consumer,
                self._claim_idle_ms,
                start_id=self._claim_cursors.get(sku, b"0-0"),
                count=self._count(skus),
            )
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        found: list[Entry] = []
        for sku, reply in zip(skus, replies, strict=True):
            if isinstance(reply, Exception):
                await self._recover(sku, reply)
                continue
            self._claim_cursors[sku] = reply[0]
            entries = _entries(sku, reply[1])
            if entries:
                self._unfinished.add(sku)
            found += entries
        return found

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Take entries off, once and for all: only what Kafka has acknowledged."""
        for sku, group in groupby(entries, key=lambda entry: entry.sku):
            ids: list[Any] = [entry.entry_id for entry in group]
            for begin in range(0, len(ids), REMOVE_CHUNK):
                chunk = ids[begin : begin + REMOVE_CHUNK]
                key = queue_key(sku)
                with redis_faults():
                    # Together, else a crash between would leave entries that nobody reads again.
                    await send_all(
                        self._redis,
                        [
                            ("MULTI",),
                            ("XACK", key, RELAY_GROUP, *chunk),
                            ("XDEL", key, *chunk),
                            ("EXEC",),
                        ],
                    )

    def finished(self, skus: Iterable[str]) -> None:
        """Nothing that we have read from these streams is left."""
        self._unfinished.difference_update(skus)

    async def backlog(self, skus: Sequence[str]) -> tuple[int, float | None]:
        """(entries in these outboxes, Unix time in seconds of the oldest one)."""
        pipeline = self._redis.pipeline(transaction=False)
        for sku in skus:
            pipeline.xlen(queue_key(sku))
            pipeline.xrange(queue_key(sku), count=1)
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        depth = sum(length for length in replies[0::2] if isinstance(length, int))
        # Stream ids begin with milliseconds of Redis' clock.
        times_s = [
            int(first[0][0].partition(b"-")[0]) / 1000
            for first in replies[1::2]
            if isinstance(first, list) and first
        ]
        return depth, min(times_s, default=None)

    async def numbers(self, sku: str) -> set[str]:
        """The order numbers that this outbox has entries of, read by a relay or not."""
        found: set[str] = set()
        start = "-"
        while True:
            with redis_faults():
                page: Any = await self._redis.xrange(queue_key(sku), min=start, count=NUMBERS_CHUNK)
            entries = _entries(sku, page)
            found |= {number for entry in entries if (number := number_in(entry.payload))}
            if len(page) < NUMBERS_CHUNK:
                return found
            start = f"({page[-1][0].decode()}"

    def _count(self, skus: Sequence[str]) -> int:
        return max(ENTRIES_MIN, self._entries_max // max(1, len(skus)))

    async def _recover(self, sku: str, error: Exception) -> None:
        """Make the group where it is missing; pass any other fault of one stream by."""
        if not isinstance(error, ResponseError):
            raise DependencyUnavailable("redis does not answer") from error
        if not str(error).startswith("NOGROUP"):
            log.error("outbox cannot be read", sku=sku, error=str(error))
            return
        # From the first entry on: entries may have come before the group.
        try:
            with redis_faults():
                await self._redis.xgroup_create(queue_key(sku), RELAY_GROUP, id="0", mkstream=True)
        except DependencyUnavailable as fault:
            # Another relay was faster.
            if not str(fault.__cause__).startswith("BUSYGROUP"):
                raise


def _entries(sku: str, raw_entries: Iterable[Any]) -> list[Entry]:
    """What redis-py parsed; an entry deleted by others comes without fields, or as None."""
    return [
        Entry(sku=sku, entry_id=entry_id, payload=fields.get(ENTRY_FIELD), deleted=not fields)
        for entry_id, fields in raw_entries
        if entry_id is not None
    ]
