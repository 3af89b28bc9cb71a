"""Keeps a snapshot of all sales and of the kill switch, and streams its changes to watchers."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import redis.asyncio
import structlog

from inventory_svc import metrics
from inventory_svc.keys import kill_switch_key, notices_channel
from inventory_svc.sales.gauges import SaleGauges
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.sales import Sales
from inventory_svc.sales.window import next_edge_s, sells
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.runtime.clock import Clock
from seckill.runtime.redis_client import redis_faults, servers_of
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.shadow import is_shadow
from seckill.v1 import inventory_pb2, sale_pb2

# Notices taken together: a sale that sells out and is restocked in turn is read once for many.
NOTICES_MAX = 1_000
# Holders in one message, at 128 bytes each far below gRPC's 4 MiB. The holders of a sale with more
# are not sent, and the gateway asks for each buyer.
HOLDERS_MAX = 20_000
# Sales read in an interval without there having been a notice of them: so what they cost does not
# grow with all the sales that there have ever been.
READS_MAX = 32
# What a notice about the kill switch has in the place of a sku.
SWITCH_NOTICED = ""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sale, and who holds units of it while it sells nothing.

    Attributes:
        holders: None while it sells, or if there are too many to send.
        holder_count: how many they were when they were read; 0 while it sells.
    """

    sale: sale_pb2.Sale
    holders: tuple[str, ...] | None = None
    holder_count: int = 0


class _Watcher:
    """One stream: what has changed since it was last served, at most one entry a sku."""

    def __init__(
        self, snapshots: dict[str, Snapshot], switch: inventory_pb2.KillSwitch | None
    ) -> None:
        self.pending = dict(snapshots)
        # None if there is nothing to tell of it.
        self.switch = switch
        self.changed = asyncio.Event()
        self.changed.set()


class SalesWatch:
    """Follows notices from Redis, and tells all watchers.

    Notices may be lost, and keys too: so some sales are read in each interval, in turn, and those
    whose window has just opened or closed; all of them whenever notices start to be followed.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        sales: Sales,
        kill_switch: KillSwitch,
        *,
        clock: Clock,
        interval_s: float,
        first_timeout_s: float,
        streams_max: int,
        gauges: SaleGauges,
    ) -> None:
        """Describe it; nothing is read before `run`.

        Args:
            gauges: told of each sale that is read; those that it shows are read each time.
            interval_s: up to READS_MAX sales are read this often.
            first_timeout_s: how long a stream waits for the first snapshot.
            streams_max: streams open at once; more are Overloaded.
        """
        self._redis = client
        self._sales = sales
        self._kill_switch = kill_switch
        self._clock = clock
        self._interval_s = interval_s
        self._first_timeout_s = first_timeout_s
        self._streams_max = streams_max
        self._gauges = gauges
        self._known: dict[str, Snapshot] = {}
        # All skus, in the order in which their sales are read; and how many were read of this turn.
        self._turn: list[str] = []
        self._turned = 0
        self._member_count = 0
        # Sku → Unix time at which the sale's window opens or closes next.
        self._edges_s: dict[str, float] = {}
        # None until it has been read.
        self._switch: inventory_pb2.KillSwitch | None = None
        self._synced = asyncio.Event()
        self._watchers: set[_Watcher] = set()

    async def run(self) -> None:
        """Follow Redis until cancelled; without Redis keep what is known, and try again."""
        while True:
            try:
                await self._follow()
            except DependencyUnavailable as error:
                log.warning("sales watch interrupted", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def halted(self) -> bool:
        """Return whether the kill switch was on when last read; read it now if it never was."""
        switch = self._switch
        if switch is None:
            switch = await self.refresh_switch()
        return switch.on

    async def refresh_switch(self) -> inventory_pb2.KillSwitch:
        """Read the kill switch, and tell the watchers if it has been set."""
        switch = await self._kill_switch.read()
        self.note_switch(switch)
        return switch

    def note_switch(self, switch: inventory_pb2.KillSwitch) -> None:
        """Tell the watchers of the switch if they do not know it."""
        known, self._switch = self._switch, switch
        metrics.INVENTORY_HALTED.set(switch.on)
        if switch != known:
            if known is not None or switch.on:
                log.warning("kill switch set", on=switch.on, reason=switch.reason)
            for watcher in self._watchers:
                watcher.switch = switch
                watcher.changed.set()

    async def refresh(self, skus: list[str]) -> None:
        """Read these sales and tell the watchers what has changed."""
        for sale in await self._sales.read(skus, reachable_only=True):
            sku = sale.terms.sku
            known = self._known.get(sku)
            self._note_edge(sale)
            self._gauges.note(sale, now_s=self._clock.now_s())
            snapshot = await self._look(sale, known)
            if not sale.loaded and (is_shadow(sku) or not await self._sales.known(sku)):
                # Removed or archived, not lost: told once, and forgotten.
                self._forget(snapshot)
                continue
            if known is None or _visible(snapshot) != _visible(known):
                self._known[sku] = snapshot
                for watcher in self._watchers:
                    watcher.pending[sku] = snapshot
                    watcher.changed.set()

    def _forget(self, snapshot: Snapshot) -> None:
        sku = snapshot.sale.terms.sku
        if self._known.pop(sku, None) is not None:
            for watcher in self._watchers:
                watcher.pending[sku] = snapshot
                watcher.changed.set()

    async def _look(self, sale: sale_pb2.Sale, known: Snapshot | None) -> Snapshot:
        """Return the sale with its holders, read after it: they have each hold of that moment.

        Holds stay when they are released, so as long as their number stays, so do the holders.
        """
        if sells(sale, now_s=self._clock.now_s()):
            return Snapshot(sale)
        sku = sale.terms.sku
        count = await self._sales.holder_count(sku)
        same = known is not None and known.sale.epoch == sale.epoch and known.holder_count == count
        if same and known is not None and known.holders is not None:
            return Snapshot(sale, known.holders, count)
        if count > HOLDERS_MAX:
            return Snapshot(sale, None, count)
        return Snapshot(sale, tuple(await self._sales.holders(sku)), count)

    def knows(self, sku: str) -> bool:
        """Return whether this process has ever seen the sale."""
        return sku in self._known

    async def stream(self) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        """Yield all sales and the kill switch, then what changes, until the generator is closed.

        Raises:
            DependencyUnavailable: Redis has not been read since the start.
            Overloaded: too many streams are open.
        """
        if len(self._watchers) >= self._streams_max:
            raise Overloaded("too many streams are open")
        try:
            async with asyncio.timeout(self._first_timeout_s):
                await self._synced.wait()
        except TimeoutError as error:
            raise DependencyUnavailable("redis does not answer") from error
        watcher = _Watcher(self._known, self._switch)
        self._watchers.add(watcher)
        metrics.WATCH_SALES_STREAMS.inc()
        try:
            complete = True
            while True:
                await watcher.changed.wait()
                watcher.changed.clear()
                pending, watcher.pending = watcher.pending, {}
                switch, watcher.switch = watcher.switch, None
                if not pending and switch is None:
                    # Nothing has changed: all that was told holds.
                    yield inventory_pb2.WatchSalesResponse()
                for message in _messages(list(pending.values()), switch, complete=complete):
                    yield message
                complete = False
        finally:
            self._watchers.discard(watcher)
            metrics.WATCH_SALES_STREAMS.dec()

    def _wake_watchers(self) -> None:
        for watcher in self._watchers:
            watcher.changed.set()

    def _note_edge(self, sale: sale_pb2.Sale) -> None:
        edge_s = next_edge_s(sale, now_s=self._clock.now_s())
        if edge_s is None:
            self._edges_s.pop(sale.terms.sku, None)
        else:
            self._edges_s[sale.terms.sku] = edge_s

    async def _refresh_due(self, *, complete: bool) -> None:
        """Read the switch, and the sales that are to be read now; `complete`: all there are."""
        try:
            await self.refresh_switch()
            due = await self._due(await self._sales.count(), complete=complete)
        except DependencyUnavailable:
            if complete or not isinstance(self._redis, ClusterRedis):
                raise
            # The switch and the set of skus are each on one node of a cluster: sales on others are
            # read all the same.
            due = await self._due(self._member_count, complete=False)
        await self.refresh(due)

    async def _due(self, count: int, *, complete: bool) -> list[str]:
        """Return the skus to read now, of so many that there are; `complete`: all of them."""
        fresh: set[str] = set()
        if complete or count != self._member_count or len(self._turn) != len(self._known):
            members = set(await self._sales.skus())
            fresh = members - self._known.keys()
            self._turn, self._member_count = sorted(members | self._known.keys()), count
        if complete:
            return self._turn
        now_s = self._clock.now_s()
        fresh |= self._gauges.skus
        fresh |= {sku for sku, edge_s in self._edges_s.items() if edge_s < now_s}
        self._turned %= max(1, len(self._turn))
        part = self._turn[self._turned : self._turned + READS_MAX]
        self._turned += READS_MAX
        return sorted(fresh.union(part))

    async def _follow(self) -> None:
        with redis_faults():
            # Whichever node of a cluster: each is told what is published on another.
            server = random.choice(await servers_of(self._redis))  # noqa: S311 - no secret
        async with aclosing(server.pubsub()) as pubsub:
            with redis_faults():
                await pubsub.subscribe(notices_channel(), kill_switch_key())
            next_read_s = 0.0
            complete = True
            connection: Any = pubsub.connection
            # Not for ever on a server that the other connections have left.
            while not connection.should_reconnect():
                wait_s = next_read_s - self._clock.monotonic_s()
                if wait_s <= 0:
                    await self._refresh_due(complete=complete)
                    complete = False
                    self._synced.set()
                    self._wake_watchers()
                    next_read_s = self._clock.monotonic_s() + self._interval_s
                    continue
                noticed = await _notices(pubsub, wait_s)
                if SWITCH_NOTICED in noticed:
                    await self.refresh_switch()
                if skus := noticed - {SWITCH_NOTICED}:
                    await self.refresh(sorted(skus))


async def _notices(pubsub: Any, wait_s: float) -> set[str]:
    """Return the skus noticed within `wait_s`: the first one, and those that came with it.

    SWITCH_NOTICED, which is no sku, stands for the kill switch.
    """
    skus: set[str] = set()
    with redis_faults():
        for _ in range(NOTICES_MAX):
            timeout_s = 0.0 if skus else wait_s
            notice = await pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
            if notice is None:
                break
            skus.add(notice["data"].decode())
    return skus


def _messages(
    snapshots: Sequence[Snapshot], switch: inventory_pb2.KillSwitch | None, *, complete: bool
) -> Iterator[inventory_pb2.WatchSalesResponse]:
    """The sales and the switch in one message, then holders, each in one that is not too large."""
    if snapshots or complete or switch is not None:
        yield inventory_pb2.WatchSalesResponse(
            sales=[snapshot.sale for snapshot in snapshots], complete=complete, kill_switch=switch
        )
    message, held = inventory_pb2.WatchSalesResponse(), 0
    for snapshot in snapshots:
        if snapshot.holders is None:
            continue
        if held + len(snapshot.holders) > HOLDERS_MAX:
            yield message
            message, held = inventory_pb2.WatchSalesResponse(), 0
        message.holders.add(sku=snapshot.sale.terms.sku, user_ids=snapshot.holders)
        held += len(snapshot.holders)
    if message.holders:
        yield message


def _visible(snapshot: Snapshot) -> tuple[bytes, bool, int]:
    """What a change of is worth telling: all but the count of remaining units."""
    copy = sale_pb2.Sale()
    copy.CopyFrom(snapshot.sale)
    copy.remaining_units = 0
    told = copy.SerializeToString(deterministic=True)
    return told, snapshot.holders is None, snapshot.holder_count
