"""The relay: moves reservations from the outbox streams in Redis to Kafka, at least once.

An entry is removed only after Kafka has acknowledged its record. Until then it stays pending in
the stream's consumer group: read again by this relay after a failure, taken over by another one
when this one is gone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from inventory_svc import metrics
from inventory_svc.outbox import Entry, Record, UndecodableEntry, to_record
from inventory_svc.producer import Delivery, OrdersProducer
from inventory_svc.settings import InventorySettings
from inventory_svc.streams import OutboxStreams
from inventory_svc.unreadable import UnreadableEntries
from seckill import failpoints
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable, SeckillError

# Streams read by one pipeline, and so by one pass.
STREAMS_MAX = 64
DEPTH_INTERVAL_S = 1.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RelayResult:
    """What a pass has done."""

    # Entries that Kafka has acknowledged.
    sent: int = 0
    # Entries that could not be read, in the dead-letter topic now.
    dead_lettered: int = 0
    # Of all these, entries taken over from a relay that had left them unfinished.
    claimed: int = 0

    def __add__(self, other: "RelayResult") -> "RelayResult":
        return RelayResult(
            self.sent + other.sent,
            self.dead_lettered + other.dead_lettered,
            self.claimed + other.claimed,
        )

    @property
    def moved(self) -> int:
        """Entries that left the outbox."""
        return self.sent + self.dead_lettered


class Relay:
    """Moves entries while the process runs; woken by reservations, else by the clock."""

    def __init__(
        self,
        streams: OutboxStreams,
        producer: OrdersProducer,
        unreadable: UnreadableEntries,
        *,
        settings: InventorySettings,
        clock: Clock,
    ) -> None:
        """Wire it; `unreadable` finds the reservations behind entries that cannot be read."""
        self._streams = streams
        self._producer = producer
        self._unreadable = unreadable
        self._settings = settings
        self._clock = clock
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._next_full_s = self._next_claim_s = self._next_depth_s = 0.0

    def wake(self, sku: str) -> None:
        """There are new entries of this sku; without effect on the caller's time."""
        self._woken.add(sku)
        self._wake.set()

    async def run(self) -> None:
        """Move entries until cancelled, then once more for a bounded time, and disconnect."""
        work = asyncio.create_task(self._work(), name="relay-work")
        try:
            # Cancelled in the middle of a pass, Kafka would get its entries twice.
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopping = True
            self._wake.set()
            await asyncio.wait([work], timeout=self._settings.inventory_relay_flush_timeout_s)
            raise
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._producer.close()

    async def run_once(self) -> RelayResult:
        """Move what there is, one pass over all outboxes.

        Raises:
            DependencyUnavailable: Redis or Kafka failed; whatever was not acknowledged stays.
        """
        skus = await self._streams.skus()
        total = RelayResult()
        claiming = self._clock.monotonic_s() >= self._next_claim_s
        for begin in range(0, len(skus), STREAMS_MAX):
            chunk = skus[begin : begin + STREAMS_MAX]
            if claiming:
                total += await self._move_claimed(chunk)
            total += await self._move_read(chunk)
        if claiming:
            idle_s = self._settings.inventory_relay_claim_idle_s
            self._next_claim_s = self._clock.monotonic_s() + idle_s / 2
        return total

    async def _work(self) -> None:
        interval_s = self._settings.inventory_relay_interval_s
        backoff_s = interval_s
        while True:
            try:
                moved = (await self._pass()).moved
            except SeckillError as error:
                log.warning("relay pass failed", error=str(error), retry_after_s=backoff_s)
                if self._stopping:
                    return
                await self._sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self._settings.inventory_relay_backoff_max_s)
                continue
            backoff_s = interval_s
            if self._stopping:
                if moved == 0:
                    return
            elif moved == 0 and not self._woken:
                await self._sleep(self._next_full_s - self._clock.monotonic_s())
            if moved < self._settings.inventory_relay_entries_max and not self._stopping:
                # Entries gather meanwhile: fewer and larger batches.
                await asyncio.sleep(self._settings.inventory_relay_linger_s)

    async def _sleep(self, most_s: float) -> None:
        """Until somebody wakes us, at most `most_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, most_s)):
                await self._wake.wait()

    async def _pass(self) -> RelayResult:
        """The outboxes that woke us, and every now and then all of them."""
        self._wake.clear()
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_depth_s:
            # First: while Kafka is away no pass comes to its end, and this is what one looks at.
            self._next_depth_s = now_s + DEPTH_INTERVAL_S
            await self._measure()
        if self._stopping or now_s >= self._next_full_s:
            self._woken.clear()
            self._next_full_s = now_s + self._settings.inventory_relay_interval_s
            return await self.run_once()
        skus = sorted(self._woken)[:STREAMS_MAX]
        self._woken.difference_update(skus)
        return await self._move_read(skus) if skus else RelayResult()

    async def _measure(self) -> None:
        depth, oldest_s = await self._streams.backlog(await self._streams.skus())
        age_s = 0.0 if oldest_s is None else max(0.0, self._clock.now_s() - oldest_s)
        metrics.outbox_depth.set(depth)
        metrics.outbox_oldest_age.set(age_s)

    async def _move_claimed(self, skus: Sequence[str]) -> RelayResult:
        entries = await self._streams.claim(skus)
        if not entries:
            return RelayResult()
        log.info("entries taken over", entries=len(entries))
        metrics.relay_claimed.inc(len(entries))
        moved = await self._move(entries)
        return moved + RelayResult(claimed=len(entries))

    async def _move_read(self, skus: Sequence[str]) -> RelayResult:
        """Read, send, remove; what was read stays unfinished unless all of it went well."""
        found = await self._streams.read(skus)
        self._woken.update(found.more)
        result = await self._move(found.entries) if found.entries else RelayResult()
        self._streams.finished(found.finishing)
        return result

    async def _move(self, entries: Sequence[Entry]) -> RelayResult:
        records: list[Record] = []
        unreadable: dict[str, list[tuple[Entry, str]]] = defaultdict(list)
        gone: list[Entry] = []
        for entry in entries:
            if entry.deleted:
                gone.append(entry)
                continue
            try:
                records.append(to_record(entry))
            except UndecodableEntry as error:
                unreadable[entry.sku].append((entry, str(error)))
        if gone:
            await self._streams.remove(gone)
        sent = await self._send(records) if records else 0
        buried = 0
        for sku, problems in unreadable.items():
            try:
                await self._bury(sku, problems)
                buried += len(problems)
            except SeckillError as error:
                # Others do not wait for them. They stay pending, and are taken up again as entries
                # that were left unfinished for too long.
                log.warning("entries stay for now", sku=sku, error=str(error))
        return RelayResult(sent=sent, dead_lettered=buried)

    async def _send(self, records: Sequence[Record]) -> int:
        await failpoints.reach("relay.before_send")
        delivery = await self._producer.deliver(records)
        await failpoints.reach("relay.after_ack")
        await self._streams.remove(record.entry for record in delivery.acknowledged)
        metrics.relay_entries.inc(len(delivery.acknowledged))
        _require(delivery)
        return len(records)

    async def _bury(self, sku: str, problems: Sequence[tuple[Entry, str]]) -> None:
        """Have the units of entries that cannot be read returned, and make them dead letters.

        A crash at any point leaves the entries to be buried again: the database refuses a
        reservation once, and dead letters of one entry have one id.
        """
        entries = [entry for entry, _ in problems]
        records = await self._unreadable.records(sku, entries)
        if records:
            _require(await self._producer.deliver(records))
        numbers = [record.key.decode() for record in records]
        for entry, problem in problems:
            log.error(
                "outbox entry cannot be read",
                sku=sku,
                entry_id=entry.entry_id.decode(),
                problem=problem,
                refused_orders=numbers,
            )
            await self._producer.dead_letter(entry, problem=problem, refused=numbers)
        await self._streams.remove(entries)
        metrics.dead_letters.inc(len(entries))


def _require(delivery: Delivery) -> None:
    if delivery.error is not None:
        raise DependencyUnavailable("kafka does not take orders") from delivery.error
