"""The relay: moves reservations from the outbox streams in Redis to Kafka, at least once.

An entry is removed only after Kafka has acknowledged all of its reservations. Until then it stays
pending in the stream's consumer group: read again by this relay after a failure, taken over by
another one when this one is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from inventory_svc import metrics
from inventory_svc.outbox.rounds import Rounds
from inventory_svc.outbox.sender import EntrySender, RelayResult
from inventory_svc.outbox.streams import Backlog, OutboxStreams
from inventory_svc.settings import InventorySettings
from seckill.errors import DependencyUnavailable, SeckillError
from seckill.runtime.clock import Clock
from seckill.runtime.retry import until_success

# Streams read by one pipeline, and so by one pass.
STREAMS_MAX = 64
DEPTH_INTERVAL_S = 1.0
# Outboxes whose length is asked in one round.
LOOKS_MAX = 512
log = structlog.get_logger()


class Relay:
    """Moves entries while the process runs; woken by reservations, else by the clock."""

    def __init__(
        self,
        streams: OutboxStreams,
        sender: EntrySender,
        *,
        settings: InventorySettings,
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._rounds = Rounds(
            wait_min_s=settings.inventory_relay_interval_s,
            wait_max_s=settings.inventory_relay_idle_interval_s,
        )
        self._sale_count = -1
        # Outboxes with new entries, or with more than one pass has read.
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._one_pass = asyncio.Lock()
        self._next_full_s = self._next_claim_s = self._next_depth_s = self._next_known_s = 0.0
        # Whether the last pass left something that it could have read.
        self._more = False

    def wake(self, sku: str) -> None:
        """Say that there are new entries of this sku; takes no time of the caller."""
        self._woken.update(self._streams.written(sku))
        self._wake.set()

    def look_at(self, sku: str) -> None:
        """Look at the outboxes of this sku soon, whichever replica wrote the entries."""
        self._rounds.hurry(self._streams.of_sale(sku))

    async def check(self) -> None:
        """Raise RelayStalled while Kafka refuses entries, and their rejection, as too large."""
        self._sender.check()

    async def run(self) -> None:
        """Move entries until cancelled, then once more for a bounded time, and disconnect."""
        work = asyncio.create_task(self._work(), name="relay-work")
        try:
            # Cancelled in the middle of a pass, Kafka would get its entries twice.
            await asyncio.shield(work)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(self._settings.inventory_relay_flush_timeout_s):
                    await self._finish(work)
            except (SeckillError, TimeoutError) as error:
                log.warning("outbox left to the next relay", error=repr(error))
            raise
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._sender.close()

    async def run_once(self) -> RelayResult:
        """Move what there is, one pass over all outboxes.

        Raises:
            DependencyUnavailable: Redis or Kafka failed; what was not acknowledged stays.
        """
        outboxes = await self._streams.outboxes()
        self._rounds.know(outboxes)
        for start in range(0, len(outboxes), LOOKS_MAX):
            await self._look(outboxes[start : start + LOOKS_MAX])
        return await self._move_active()

    async def _move_active(self) -> RelayResult:
        """Move what is in the outboxes that have entries, and claim what was left in them."""
        outboxes = self._rounds.active
        total = RelayResult()
        claiming = self._clock.monotonic_s() >= self._next_claim_s
        for start in range(0, len(outboxes), STREAMS_MAX):
            chunk = outboxes[start : start + STREAMS_MAX]
            if claiming:
                total += await self._on_each_server(self._move_claimed, chunk)
            total += await self._on_each_server(self._move_read, chunk)
        if claiming:
            idle_s = self._settings.inventory_relay_claim_idle_s
            self._next_claim_s = self._clock.monotonic_s() + idle_s / 2
        return total

    async def _work(self) -> None:
        """Pass after pass, until cancelled. What decides when the next one starts:

        - The last one failed: a pause that doubles with each failure.
        - It moved nothing: the next reservation, or the time for the next round.
        - It left more than one pass may read: at once.
        - Else the linger, in which entries gather: fewer and larger record batches.
        """
        while True:
            async for attempt in until_success(
                "relay pass",
                on=SeckillError,
                wait_min_s=self._settings.inventory_relay_interval_s,
                wait_max_s=self._settings.inventory_relay_backoff_max_s,
            ):
                with attempt:
                    async with self._one_pass:
                        moved = (await self._pass()).moved
            # Outboxes that woke the relay during the pass wait for the linger only.
            if moved == 0 and not self._woken:
                await self._sleep(self._next_full_s - self._clock.monotonic_s())
            if not self._more:
                await asyncio.sleep(self._settings.inventory_relay_linger_s)

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """Let the pass in progress end, then move what is left."""
        async with self._one_pass:
            work.cancel()
            while (await self.run_once()).moved:
                pass

    async def _sleep(self, most_s: float) -> None:
        """Wait until `wake` is called, at most `most_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, most_s)):
                await self._wake.wait()

    async def _pass(self) -> RelayResult:
        """Move the outboxes that woke the relay; every interval, a round, all that have entries."""
        self._wake.clear()
        self._more = False
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_depth_s:
            # First: while Kafka is away no pass comes to its end, and this is what one looks at.
            self._next_depth_s = now_s + DEPTH_INTERVAL_S
            await self._measure()
        full = now_s >= self._next_full_s
        woken = sorted(self._woken) if full else sorted(self._woken)[:STREAMS_MAX]
        self._woken.difference_update(woken)
        for outbox in woken:
            self._rounds.activate(outbox)
        if full:
            self._next_full_s = now_s + self._settings.inventory_relay_interval_s
            try:
                await self._look_at_due(now_s)
            except DependencyUnavailable:
                if self._streams.are_on_several_servers:
                    # The one that tells of all sales: those that are known go on.
                    await self._move_active()
                raise
            return await self._move_active()
        return await self._on_each_server(self._move_read, woken) if woken else RelayResult()

    async def _on_each_server(
        self, move: Callable[[Sequence[str]], Awaitable[RelayResult]], outboxes: Sequence[str]
    ) -> RelayResult:
        """Move what is in the outboxes, server by server: one that is down stops no other's."""
        total = RelayResult()
        failure: SeckillError | None = None
        for group in await self._streams.by_server(outboxes):
            try:
                total += await move(group)
            except SeckillError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return total

    async def _look_at_due(self, now_s: float) -> None:
        """Look at outboxes that were empty and are due, of the sales that there are now."""
        due = self._rounds.due(now_s=now_s, most=LOOKS_MAX)
        count = await self._streams.sale_count() if due or now_s >= self._next_known_s else None
        if count not in (None, self._sale_count):
            self._rounds.know(await self._streams.outboxes())
            self._sale_count = count
            due = self._rounds.due(now_s=now_s, most=LOOKS_MAX)
        if now_s >= self._next_known_s:
            self._next_known_s = now_s + DEPTH_INTERVAL_S
        if due:
            await self._look(due)

    async def _look(self, outboxes: Sequence[str]) -> None:
        """Have those read that have entries, and the others left alone for some time."""
        occupied = await self._streams.occupied(outboxes)
        now_s = self._clock.monotonic_s()
        for outbox in outboxes:
            if outbox in occupied:
                self._rounds.activate(outbox)
            elif outbox not in self._woken:
                self._rounds.rest(outbox, now_s=now_s)

    async def _measure(self) -> None:
        """Show what waits; leave the outboxes alone that are empty by now."""
        active = self._rounds.active
        found = await self._streams.backlog(active) if active else Backlog({}, None)
        oldest_s, now_s = found.oldest_s, self._clock.now_s()
        metrics.OUTBOX_DEPTH.set(found.total)
        metrics.OUTBOX_OLDEST_AGE_SECONDS.set(
            0.0 if oldest_s is None else max(0.0, now_s - oldest_s)
        )
        for outbox, reservations in found.reservations.items():
            if not reservations and outbox not in self._woken:
                self._rounds.rest(outbox, now_s=self._clock.monotonic_s())

    async def _move_claimed(self, outboxes: Sequence[str]) -> RelayResult:
        entries = await self._streams.claim(outboxes)
        if not entries:
            return RelayResult()
        log.info("outbox entries claimed", entries=len(entries))
        metrics.RELAY_CLAIMED_ENTRIES_TOTAL.inc(len(entries))
        moved = await self._sender.move(entries)
        return moved + RelayResult(claimed=len(entries))

    async def _move_read(self, outboxes: Sequence[str]) -> RelayResult:
        """Read, send, remove; what was read stays unfinished unless all of it went well."""
        found = await self._streams.read(outboxes)
        self._woken.update(found.more)
        self._more = self._more or bool(found.more)
        result = await self._sender.move(found.entries) if found.entries else RelayResult()
        self._streams.finished(found.finishing)
        return result
