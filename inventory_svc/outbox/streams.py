"""The outbox streams as the relay sees them: look, read, claim, remove, measure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.keys import (
    BATCH_FIELD,
    RELAY_GROUP,
    SINGLE_FIELD,
    TRACE_FIELD,
    backlog_key,
    outbox_key,
    replication_marker_key,
    single_outbox_key,
    skus_key,
    tag_in,
)
from inventory_svc.outbox.backlog import FIELDS, is_overcounted, reservations_waiting
from inventory_svc.outbox.entry import Entry, numbers_in
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import (
    AT_ONCE,
    MARKER_TTL_MS,
    REMOVE,
    Confirmation,
)
from seckill.errors import DependencyUnavailable
from seckill.runtime import traceparent
from seckill.runtime.bucket_tags import BUCKET_MARK
from seckill.runtime.redis_client import keys_by_server, redis_faults, server_of
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.traceparent import TraceContext

# Entries asked of each stream at least, however many streams share a pass.
ENTRIES_MIN = 16
# Entries removed by one run of remove.lua.
REMOVE_CHUNK = 1_000
# Longest wait for it.
REMOVE_TIMEOUT_S = 5.0
# Entries read at once when all of an outbox are looked at; its cap bounds how often.
NUMBERS_CHUNK = 100
# Entries never delivered to any relay; entries pending with this one.
_NEW, _PENDING = ">", "0"
log = structlog.get_logger()


class Backlog(NamedTuple):
    """What waits in some outboxes.

    Attributes:
        reservations: by outbox.
        oldest_s: Unix time in seconds of the oldest entry; None without one.
    """

    reservations: dict[str, int]
    oldest_s: float | None

    @property
    def total(self) -> int:
        """Reservations in all of them."""
        return sum(self.reservations.values())


@dataclass(slots=True)
class ReadResult:
    """Entries read, and what that says about their streams."""

    entries: list[Entry] = field(default_factory=list)
    # Outboxes that have more to read.
    more: list[str] = field(default_factory=list)
    # Outboxes of which nothing is pending with us once these entries are removed.
    finishing: list[str] = field(default_factory=list)


class OutboxStreams:
    """One consumer of the group `relay` on each outbox. DependencyUnavailable without Redis.

    An outbox is named by the key of its stream. A sale has two: the one that is written, and the
    one of version 0.2, whose replicas may still write it.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        consumer: str,
        entries_max: int,
        claim_idle_s: float,
        confirm: Confirmation = AT_ONCE,
        layouts: Layouts | None = None,
    ) -> None:
        """Describe it.

        Args:
            consumer: name of this process, unlike that of any other.
            entries_max: reservations read at once, about, from all streams together.
            claim_idle_s: how long an entry is left to the relay that has read it.
            confirm: what replicas must confirm before an entry counts.
            layouts: which sales have several buckets, as the whole process knows it.
        """
        self._redis = client
        self._layouts = layouts or Layouts(client)
        self._scripts = runner_of(client)
        self._consumer = consumer
        self._entries_max = entries_max
        # How many entries have so many reservations: doubled while they have fewer.
        self._entries_now = ENTRIES_MIN
        self._confirm = confirm
        self._claim_idle_ms = int(claim_idle_s * 1000)
        # Streams whose entries may be pending with us: they are read again from the first on.
        self._unfinished: set[str] = set()
        self._claim_cursors: dict[str, bytes] = {}

    @property
    def are_on_several_servers(self) -> bool:
        """Whether some may be reached while others are not."""
        return isinstance(self._redis, ClusterRedis)

    async def by_server(self, outboxes: Sequence[str]) -> list[Sequence[str]]:
        """Return the outboxes of each server: those are read, and confirmed, together."""
        with redis_faults():
            return await keys_by_server(self._redis, outboxes)

    async def outboxes(self) -> list[str]:
        """Return all outboxes, sorted by sku."""
        with redis_faults():
            members: Any = await self._redis.smembers(skus_key())
        await self._layouts.learn_all()
        skus = sorted(member.decode() for member in members)
        return [outbox for sku in skus for outbox in self.of_sale(sku)]

    def of_sale(self, sku: str) -> Sequence[str]:
        """Return the outboxes of a sale, of all its buckets, as far as is known."""
        return [outbox for tag in self._layouts.tags(sku) for outbox in outboxes_of(tag)]

    def written(self, sku: str) -> Sequence[str]:
        """Return those outboxes of a sale that reservations are written to."""
        return [outbox_key(tag) for tag in self._layouts.tags(sku)]

    async def sale_count(self) -> int:
        """Return how many sales there are."""
        with redis_faults():
            return int(await self._redis.scard(skus_key()))

    async def occupied(self, outboxes: Sequence[str]) -> set[str]:
        """Return those that have entries, read by a relay or not; also those that are damaged."""
        pipeline = self._redis.pipeline(transaction=False)
        for outbox in outboxes:
            pipeline.xlen(outbox)
        with redis_faults():
            lengths = await pipeline.execute(raise_on_error=False)
        return {outbox for outbox, length in zip(outboxes, lengths, strict=True) if length}

    async def read(self, outboxes: Sequence[str]) -> ReadResult:
        """Return entries with about `entries_max` reservations: what we have left unfinished, else
        new ones.
        """
        found = ReadResult()
        unfinished = [outbox for outbox in outboxes if outbox in self._unfinished]
        if unfinished:
            await self._read(unfinished, _PENDING, found)
        left = {entry.outbox for entry in found.entries}
        await self._read([outbox for outbox in outboxes if outbox not in left], _NEW, found)
        self._adapt(found)
        return found

    def _adapt(self, found: ReadResult) -> None:
        """Ask for more entries next time if these had few reservations, for fewer if many."""
        reservations = sum(entry.reservations for entry in found.entries)
        if reservations > self._entries_max:
            self._entries_now = max(ENTRIES_MIN, self._entries_now // 2)
        elif found.more and reservations <= self._entries_max // 2:
            self._entries_now = min(2 * self._entries_now, self._entries_max)

    async def _read(self, outboxes: Sequence[str], origin: str, found: ReadResult) -> None:
        # Before the command is sent: its reply may be lost, or this task cancelled.
        self._unfinished.update(outboxes)
        count = self._count(outboxes)
        pipeline = self._redis.pipeline(transaction=False)
        for outbox in outboxes:
            pipeline.xreadgroup(RELAY_GROUP, self._consumer, {outbox: origin}, count=count)
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        for outbox, reply in zip(outboxes, replies, strict=True):
            if isinstance(reply, Exception):
                await self._recover(outbox, reply)
                continue
            entries = _entries(outbox, reply[0][1]) if reply else []
            found.entries += entries
            if len(entries) == count:
                found.more.append(outbox)
            if origin == _NEW or len(entries) < count:
                found.finishing.append(outbox)

    async def claim(self, outboxes: Sequence[str]) -> list[Entry]:
        """Claim entries that a relay has left unfinished for too long; they are ours now."""
        pipeline = self._redis.pipeline(transaction=False)
        for outbox in outboxes:
            pipeline.xautoclaim(
                outbox,
                RELAY_GROUP,
                self._consumer,
                self._claim_idle_ms,
                start_id=self._claim_cursors.get(outbox, b"0-0"),
                count=self._count(outboxes),
            )
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        found: list[Entry] = []
        for outbox, reply in zip(outboxes, replies, strict=True):
            if isinstance(reply, Exception):
                await self._recover(outbox, reply)
                continue
            self._claim_cursors[outbox] = reply[0]
            entries = _entries(outbox, reply[1])
            if entries:
                self._unfinished.add(outbox)
            found += entries
        return found

    async def require_confirmed(self, tag: str) -> None:
        """Raise DependencyUnavailable unless replicas have all entries that were read so far.

        Nobody was promised what they lack, and a primary that was left behind would turn it into
        orders that take the units of those who buy at the new one (docs/adr/0019).

        Args:
            tag: in the outbox of one of the entries; names the key that is written to ask for all
                of them.
        """
        wanted = self._confirm
        if not wanted.replicas:
            return
        marker = replication_marker_key(tag)
        with redis_faults():
            server = await server_of(self._redis, marker)
            pipeline: Any = server.pipeline(transaction=False)
            # WAIT is about this connection's last write.
            pipeline.set(marker, "", px=MARKER_TTL_MS)
            pipeline.execute_command("WAIT", wanted.replicas, wanted.timeout_ms)
            _, confirmed = await pipeline.execute()
        if confirmed < wanted.replicas:
            raise DependencyUnavailable(
                f"{confirmed} of {wanted.replicas} replicas have what is to be sent"
            )

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Remove entries for good: only those all of whose reservations Kafka has acknowledged."""
        for outbox, group in groupby(entries, key=lambda entry: entry.outbox):
            done = list(group)
            for start in range(0, len(done), REMOVE_CHUNK):
                await self._remove(outbox, done[start : start + REMOVE_CHUNK])

    async def _remove(self, outbox: str, entries: Sequence[Entry]) -> None:
        words: list[Any] = [RELAY_GROUP]
        for entry in entries:
            words += (entry.entry_id, entry.reservations)
        # Together, else a crash between would leave entries that no relay reads again, or reckon
        # that more waits than there is.
        await self._scripts.run(REMOVE, _keys(outbox), words, timeout_s=REMOVE_TIMEOUT_S)

    def finished(self, outboxes: Iterable[str]) -> None:
        """Note that nothing that we have read from these streams is left."""
        self._unfinished.difference_update(outboxes)

    async def backlog(self, outboxes: Sequence[str]) -> Backlog:
        """Return what waits in these outboxes; count those again that others have trimmed."""
        pipeline = self._redis.pipeline(transaction=False)
        for outbox in outboxes:
            pipeline.xlen(outbox)
            pipeline.xrange(outbox, count=1)
            pipeline.hmget(backlog_key(tag_in(outbox)), FIELDS)
        with redis_faults():
            replies = await pipeline.execute(raise_on_error=False)
        found: dict[str, int] = {}
        times_s: list[float] = []
        for number, outbox in enumerate(outboxes):
            length, first, counted = replies[3 * number : 3 * number + 3]
            if not (isinstance(length, int) and isinstance(counted, list)):
                continue  # one of the wrong type does not hide the others
            if not _is_counted(outbox):
                found[outbox] = length
            else:
                found[outbox] = reservations_waiting(length, counted)
                if is_overcounted(length, counted):
                    await self._remove(outbox, ())
            # Stream ids start with milliseconds of Redis' clock.
            times_s += [int(entry_id.partition(b"-")[0]) / 1000 for entry_id, _ in first]
        return Backlog(found, min(times_s, default=None))

    async def numbers(self, sku: str) -> set[str]:
        """Return the order numbers in the outboxes of a sale, read by a relay or not."""
        found: set[str] = set()
        for outbox in self.of_sale(sku):
            start, full = "-", True
            while full:
                with redis_faults():
                    page: Any = await self._redis.xrange(outbox, min=start, count=NUMBERS_CHUNK)
                full = len(page) == NUMBERS_CHUNK
                for entry in _entries(outbox, page):
                    found |= numbers_in(entry)
                    start = f"({entry.entry_id.decode()}"
        return found

    def _count(self, outboxes: Sequence[str]) -> int:
        return max(ENTRIES_MIN, self._entries_now // max(1, len(outboxes)))

    async def _recover(self, outbox: str, error: Exception) -> None:
        """Create the group if it is missing; log any other fault of one stream, and go on."""
        if not isinstance(error, ResponseError):
            raise DependencyUnavailable("redis does not answer") from error
        if not str(error).startswith("NOGROUP"):
            log.error("outbox cannot be read", outbox=outbox, error=str(error))
            return
        # From the first entry on: entries may have come before the group.
        try:
            with redis_faults():
                await self._redis.xgroup_create(outbox, RELAY_GROUP, id="0", mkstream=True)
        except DependencyUnavailable as fault:
            # Another relay has created it.
            if not str(fault.__cause__).startswith("BUSYGROUP"):
                raise


def outboxes_of(tag: str) -> tuple[str, ...]:
    """Return the outboxes of a sale, or of one of its buckets: the one that is written, and that of
    version 0.2, which knew no buckets.
    """
    if BUCKET_MARK in tag:
        return (outbox_key(tag),)
    return outbox_key(tag), single_outbox_key(tag)


def _is_counted(outbox: str) -> bool:
    return outbox == outbox_key(tag_in(outbox))


def _keys(outbox: str) -> tuple[str, ...]:
    """Return the keys of remove.lua."""
    return (outbox, backlog_key(tag_in(outbox))) if _is_counted(outbox) else (outbox,)


def _entries(outbox: str, raw_entries: Iterable[Any]) -> list[Entry]:
    """Return what redis-py parsed; a deleted entry comes without fields, or as None."""
    return [
        Entry(
            outbox,
            entry_id,
            payload=fields.get(BATCH_FIELD) or fields.get(SINGLE_FIELD),
            batch=BATCH_FIELD in fields,
            deleted=not fields,
            trace=_trace(fields[TRACE_FIELD]) if TRACE_FIELD in fields else None,
        )
        for entry_id, fields in raw_entries
        if entry_id is not None
    ]


def _trace(value: bytes) -> TraceContext | None:
    return traceparent.parse(value.decode("latin-1"))
