"""Rebuilds a sale that Redis has lost from the database (docs/adr/0007)."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import structlog

from inventory_svc import metrics
from inventory_svc.buckets.layouts import Layouts
from inventory_svc.outbox.relay import Relay
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.sales.fields import to_fields
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.hold import format_hold
from inventory_svc.stock.loader import NOTHING_STAGED, SaleLoader
from seckill.buckets import home_of
from seckill.errors import ConsumersLagging, SaleStateConflict, SeckillError
from seckill.runtime.clock import Clock
from seckill.v1 import order_pb2, sale_pb2

OUTBOX_INTERVAL_S = 0.1
REBUILD_INTERVAL_S = 0.1
log = structlog.get_logger()


class Rebuilder:
    """Rebuilds lost sales, step by step; a rebuild that dies starts again with the next call.

    While the sale is not loaded nothing is reserved and nothing is released, so what the database
    says stands still but for orders that end, and for messages that were still on their way.
    """

    def __init__(
        self,
        *,
        sales: Sales,
        loader: SaleLoader,
        streams: OutboxStreams,
        relay: Relay,
        registry: SaleRegistry,
        layouts: Layouts,
        clock: Clock,
        redis_timeout_s: float,
    ) -> None:
        """`redis_timeout_s`: longest wait for one command."""
        self._layouts = layouts
        self._sales = sales
        self._loader = loader
        self._streams = streams
        self._relay = relay
        self._registry = registry
        self._clock = clock
        self._redis_timeout_s = redis_timeout_s

    async def rebuild(self, sku: str, *, timeout_s: float) -> None:
        """Load a sale that is registered and not loaded, under its next epoch.

        One of several buckets is rebuilt as a whole, also if one bucket is lost: the others are
        closed first, so that all that was promised is counted before units are dealt out again.

        Args:
            timeout_s: how long the outbox and the consumers may take to drain.

        Raises:
            SaleStateConflict: it is loaded, by now or by another rebuild; nothing was changed.
            ConsumersLagging: reservations are still on their way, or another rebuild came between
                and has not loaded the sale in time.
            SaleNotFound, as OrderService says it: it is not registered.
            DependencyUnavailable, OutcomeUnknown: a store or order_svc does not answer.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        (sale,) = await self._sales.read([sku])
        if sale.loaded:
            raise SaleStateConflict("the sale is loaded; only a lost one is rebuilt")
        known = await self._registry.sale_record(sku, timeout_s=self._left_s(ends_s))
        await self._layouts.note({sku: known.terms.buckets})
        await self._sales.remember(sku)
        if known.terms.buckets <= 1:
            await self._drain_outbox(sku, ends_s=ends_s)
        rebuild = await self._registry.begin_rebuild(sku, timeout_s=self._left_s(ends_s))
        try:
            await self._close_buckets(sku, epoch=rebuild.epoch, ends_s=ends_s)
            record, units = await self._stage(sku, epoch=rebuild.epoch, ends_s=ends_s)
            if await self._send_left_holds(sku, epoch=rebuild.epoch):
                await self.drain(sku, timeout_s=self._left_s(ends_s))
                record, units = await self._stage(sku, epoch=rebuild.epoch, ends_s=ends_s)
            await self._load(sku, record, units, epoch=rebuild.epoch)
        except _OvertakenError:
            await self._until_loaded(sku, ends_s=ends_s)
            raise SaleStateConflict("another rebuild has loaded the sale") from None
        metrics.SALE_REBUILDS_TOTAL.inc()
        log.info(
            "sale rebuilt",
            sku=sku,
            epoch=rebuild.epoch,
            units=units.free,
            holds=units.buyers,
        )

    async def load_new(
        self, terms: sale_pb2.SaleTerms, *, epoch: int, now_ms: int, timeout_s: float
    ) -> None:
        """Load a sale that has just been registered, unless it is loaded.

        Args:
            epoch: of its first load.
            now_ms: Unix time by the clock of Redis.
            timeout_s: how long to wait for Redis, for each bucket.

        Raises:
            DependencyUnavailable, OutcomeUnknown: as SaleLoader.load.
        """
        await self._layouts.note({terms.sku: terms.buckets})
        tags = self._layouts.tags(terms.sku)
        for tag, units in zip(tags, shares(terms.total_units, len(tags)), strict=True):
            await self._loader.load(
                terms.sku,
                to_fields(terms, now_ms=now_ms),
                epoch=epoch,
                units=units,
                timeout_s=timeout_s,
                bucket=tag if len(tags) > 1 else "",
            )

    async def _close_buckets(self, sku: str, *, epoch: int, ends_s: float) -> None:
        """Have nothing sold under an earlier epoch any more, and all of it counted.

        Buckets that are left go on selling until they are barred, so it cannot be done before.
        """
        tags = self._layouts.tags(sku)
        if len(tags) == 1:
            return
        for tag in tags:
            barred = await self._loader.bar(tag, epoch=epoch, timeout_s=self._redis_timeout_s)
            if not barred:
                raise _OvertakenError
        await self.drain(sku, timeout_s=self._left_s(ends_s))

    async def _load(
        self, sku: str, record: order_pb2.SaleRecord, units: "_Units", *, epoch: int
    ) -> None:
        tags = self._layouts.tags(sku)
        fields = to_fields(
            record.terms,
            now_ms=await self._sales.now_ms(sku),
            state=record.state,
            revision=record.revision,
            terms_revision=record.terms_revision,
        )
        for tag, free in zip(tags, shares(units.free, len(tags)), strict=True):
            loaded = await self._loader.load(
                sku,
                fields,
                epoch=epoch,
                units=free,
                staged=units.staged[tag],
                timeout_s=self._redis_timeout_s,
                bucket=tag if len(tags) > 1 else "",
            )
            if not loaded:
                raise _OvertakenError

    async def _until_loaded(self, sku: str, *, ends_s: float) -> None:
        """Wait for the rebuild that overtook this one."""
        while True:
            (sale,) = await self._sales.read([sku])
            if sale.loaded:
                return
            if self._clock.monotonic_s() >= ends_s:
                raise ConsumersLagging("another rebuild of the sale has started")
            await asyncio.sleep(REBUILD_INTERVAL_S)

    async def drain(self, sku: str, *, timeout_s: float) -> None:
        """Return once each reservation of a sale is an order, or a dead letter.

        Raises:
            ConsumersLagging: some are still on their way.
            DependencyUnavailable: a store or order_svc does not answer.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        await self._drain_outbox(sku, ends_s=ends_s)
        await self._registry.await_consumed(timeout_s=self._left_s(ends_s))

    async def _drain_outbox(self, sku: str, *, ends_s: float) -> None:
        """Wait until the relays have moved what is left of the outbox."""
        left = (await self._streams.backlog(self._streams.of_sale(sku))).total
        if left:
            # The relays look only at the outboxes of sales they know.
            await self._sales.remember(sku)
        while left:
            if self._clock.monotonic_s() >= ends_s:
                raise ConsumersLagging(f"{left} reservations are not in kafka yet")
            self._relay.look_at(sku)
            await asyncio.sleep(OUTBOX_INTERVAL_S)
            left = (await self._streams.backlog(self._streams.of_sale(sku))).total

    async def _stage(
        self, sku: str, *, epoch: int, ends_s: float
    ) -> tuple[order_pb2.SaleRecord, "_Units"]:
        """Stage the holds as the database has them at one moment, and count units."""
        parts = self._registry.snapshot(sku, timeout_s=self._left_s(ends_s))
        first = await anext(parts)
        if first.sale.epoch != epoch:
            raise _OvertakenError
        tags = self._layouts.tags(sku)
        units = _Units(total=first.sale.terms.total_units, tags=tags)
        for tag in tags:
            await self._loader.unstage(tag, epoch=epoch)
        async for orders in _orders(parts):
            homes: dict[str, list[tuple[str, str]]] = defaultdict(list)
            for user, hold in _holds(orders):
                homes[tags[home_of(user, len(tags))]].append((user, hold))
            for tag, holds in homes.items():
                units.staged[tag] += await self._loader.stage(tag, holds, epoch=epoch)
            units.held += sum(order.quantity for order in orders if order.holds_units)
        if units.held != first.sale.sold_units:
            raise SeckillError("the database contradicts itself: sold is not what orders hold")
        return first.sale, units

    async def _send_left_holds(self, sku: str, *, epoch: int) -> int:
        """Send what only holds that are left know of to Kafka, which has lost it; return how many.

        Once they are loaded from the database nobody would know any more what was promised.
        """
        sent = 0
        for tag in self._layouts.tags(sku):
            async for holds in self._loader.unstaged(tag, epoch=epoch):
                sent += await self._loader.resend(
                    tag, holds, epoch=epoch, timeout_s=self._redis_timeout_s
                )
        if sent:
            log.warning("holds without orders are sent once more", sku=sku, holds=sent)
        return sent

    def _left_s(self, ends_s: float) -> float:
        left_s = ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise ConsumersLagging
        return left_s


class _OvertakenError(Exception):
    """Another rebuild of the sale has started, under a later epoch."""


class _Units:
    """Counts the units of a snapshot, and what was staged of it for each bucket."""

    def __init__(self, *, total: int, tags: Sequence[str]) -> None:
        self._total = total
        self.held = 0
        self.staged = dict.fromkeys(tags, NOTHING_STAGED)

    @property
    def free(self) -> int:
        return self._total - self.held

    @property
    def buyers(self) -> int:
        return sum(staged.buyers for staged in self.staged.values())


def shares(units: int, buckets: int) -> list[int]:
    """Return units dealt out evenly over buckets."""
    each, left = divmod(units, buckets)
    return [each + (bucket < left) for bucket in range(buckets)]


async def _orders(
    parts: AsyncIterator[order_pb2.SnapshotSaleResponse],
) -> AsyncIterator[Sequence[order_pb2.SaleOrder]]:
    async for part in parts:
        yield part.orders


def _holds(orders: Sequence[order_pb2.SaleOrder]) -> list[tuple[str, str]]:
    """Pairs of user and hold. An order that holds no units leaves a released one, so that its
    attempt gets its answer again and the sale's policy on buying again holds.
    """
    return [
        (
            order.user_id,
            format_hold(
                order.order_no,
                quantity=order.quantity,
                request_id=order.request_id,
                released=not order.holds_units,
                rejected=order.state == order_pb2.ORDER_STATE_REJECTED,
            ),
        )
        for order in orders
    ]
