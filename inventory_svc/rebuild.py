"""Loads a sale anew from the database, after Redis has lost it (docs/adr/0007)."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from inventory_svc import metrics
from inventory_svc.holds import encode_hold
from inventory_svc.registry import SaleRegistry
from inventory_svc.relay import Relay
from inventory_svc.sales import Sales, to_fields
from inventory_svc.streams import OutboxStreams
from inventory_svc.upkeep import StockUpkeep
from seckill.clock import Clock
from seckill.errors import PipelineBusy, SaleStateConflict, SeckillError
from seckill.v1 import order_pb2

OUTBOX_INTERVAL_S = 0.1
log = structlog.get_logger()


class Rebuilder:
    """Rebuilds lost sales, step by step; a rebuild that dies is begun anew by whoever asks again.

    While the sale is not loaded nothing is reserved and nothing is released, so what the database
    says stands still but for orders that end, and for messages that were still on their way.
    """

    def __init__(
        self,
        *,
        sales: Sales,
        upkeep: StockUpkeep,
        streams: OutboxStreams,
        relay: Relay,
        registry: SaleRegistry,
        clock: Clock,
        redis_timeout_s: float,
    ) -> None:
        """Wire it; `redis_timeout_s`: longest wait for one command."""
        self._sales = sales
        self._upkeep = upkeep
        self._streams = streams
        self._relay = relay
        self._registry = registry
        self._clock = clock
        self._redis_timeout_s = redis_timeout_s

    async def rebuild(self, sku: str, *, timeout_s: float) -> None:
        """Load a sale that is registered and not loaded, under its next epoch.

        Args:
            timeout_s: how long the outbox and the consumers may take to drain.

        Raises:
            SaleStateConflict: it is loaded; nothing was changed.
            PipelineBusy: reservations are still on their way, or another rebuild came between.
            SaleNotFound, as OrderService says it: it is not registered.
            DependencyUnavailable, OutcomeUnknown: a store or a stage does not answer.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        (sale,) = await self._sales.read([sku])
        if sale.loaded:
            raise SaleStateConflict("the sale is loaded; only a lost one is rebuilt")
        await self._drain_outbox(sku, ends_s=ends_s)
        begun = await self._registry.begin_rebuild(sku, timeout_s=self._left_s(ends_s))
        await self._sales.remember(sku)
        record, units = await self._stage(sku, epoch=begun.epoch, ends_s=ends_s)
        loaded = await self._upkeep.load(
            sku,
            to_fields(record.terms, state=record.state, revision=record.revision),
            epoch=begun.epoch,
            units=units.free,
            staged=units.staged,
            timeout_s=self._redis_timeout_s,
        )
        if not loaded:
            raise SaleStateConflict("another rebuild has loaded the sale")
        metrics.rebuilds.inc()
        log.info("sale rebuilt", sku=sku, epoch=begun.epoch, units=units.free, holds=units.staged)

    async def _drain_outbox(self, sku: str, *, ends_s: float) -> None:
        """Wait until the relays have moved what is left of the outbox."""
        left, _ = await self._streams.backlog([sku])
        if left:
            # The relays look only where they know of a sale.
            await self._sales.remember(sku)
        while left:
            if self._clock.monotonic_s() >= ends_s:
                raise PipelineBusy(f"{left} reservations are not in kafka yet")
            self._relay.wake(sku)
            await asyncio.sleep(OUTBOX_INTERVAL_S)
            left, _ = await self._streams.backlog([sku])

    async def _stage(
        self, sku: str, *, epoch: int, ends_s: float
    ) -> tuple[order_pb2.SaleRecord, "_Units"]:
        """Put the holds aside as the database has them at one moment, and count units."""
        parts = self._registry.snapshot(sku, timeout_s=self._left_s(ends_s))
        first = await anext(parts)
        if first.sale.epoch != epoch:
            raise PipelineBusy("another rebuild of the sale has begun")
        units = _Units(total=first.sale.terms.total_units)
        await self._upkeep.unstage(sku, epoch=epoch)
        async for orders in _orders(parts):
            units.staged += await self._upkeep.stage(sku, _holds(orders), epoch=epoch)
            units.held += sum(order.quantity for order in orders if order.holds_units)
        if units.held != first.sale.sold_units:
            raise SeckillError("the database contradicts itself: sold is not what orders hold")
        return first.sale, units

    def _left_s(self, ends_s: float) -> float:
        left_s = ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise PipelineBusy
        return left_s


class _Units:
    """Units of the snapshot."""

    def __init__(self, *, total: int) -> None:
        self._total = total
        self.held = 0
        # Buyers with a hold, live or released.
        self.staged = 0

    @property
    def free(self) -> int:
        return self._total - self.held


async def _orders(
    parts: AsyncIterator[order_pb2.SnapshotSaleResponse],
) -> AsyncIterator[Sequence[order_pb2.SaleOrder]]:
    async for part in parts:
        yield part.orders


def _holds(orders: Sequence[order_pb2.SaleOrder]) -> dict[str, str]:
    """User → hold. An order that holds no units leaves a released one, so that its attempt gets
    its answer again and the sale's policy on buying again holds; a later order replaces it.
    """
    return {
        order.user_id: encode_hold(
            order.order_no,
            quantity=order.quantity,
            request_id=order.request_id,
            released=not order.holds_units,
        )
        for order in orders
    }
