"""The sales as WatchSales reports them: for the gateway, and for the edge's agent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
import structlog

from seckill.errors import DependencyUnavailable
from seckill.runtime.retry import until_success
from seckill.shadow import is_shadow
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill.validation import PURCHASE_LIMIT_MAX

# So close to the start or the end of a sale the script decides, by the clock of the store.
CLOCK_SKEW_S = 1.0
RECONNECT_MIN_S = 0.1
RECONNECT_MAX_S = 2.0
# A caller who names the sku in this metadata is refused by a status (see gateway.proto).
SKU_METADATA = "seckill-sku"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SaleView:
    """A sale at one moment. Each snapshot makes a new object, even if nothing differs.

    Attributes:
        start_s, end_s: Unix time.
        limit: most units in one purchase.
        holders: while the sale sells nothing, the ids of all buyers who hold units of it or did;
            the script would refuse any other buyer. None if they are not known.
    """

    state: int
    start_s: float
    end_s: float
    limit: int
    sold_out: bool
    loaded: bool
    holders: set[str] | None = None

    @classmethod
    def of(cls, sale: sale_pb2.Sale) -> "SaleView":
        """Return the view of a snapshot."""
        terms = sale.terms
        is_archived = not sale.loaded and sale.state == sale_pb2.SALE_STATE_CLOSED
        return cls(
            state=sale.state,
            start_s=terms.start_time.ToNanoseconds() / 1e9,
            end_s=terms.end_time.ToNanoseconds() / 1e9,
            # Of a sale that is not loaded nothing is known; inventory answers for it.
            limit=(terms.purchase_limit or 1) if sale.loaded else PURCHASE_LIMIT_MAX,
            sold_out=sale.sold_out,
            loaded=sale.loaded,
            # Nobody is told anything else of an archived sale.
            holders=set() if is_archived else None,
        )

    def refusal(self, now_s: float) -> int | None:
        """Return the PurchaseOutcome that any new buyer would get, None if the script must decide.

        `now_s`: Unix time by our own clock.
        """
        if not self.loaded and self.state != sale_pb2.SALE_STATE_CLOSED:
            return None
        if self.state == sale_pb2.SALE_STATE_CLOSED or now_s > self.end_s + CLOCK_SKEW_S:
            return inventory_pb2.PURCHASE_OUTCOME_ENDED
        if self.state == sale_pb2.SALE_STATE_PAUSED:
            return inventory_pb2.PURCHASE_OUTCOME_PAUSED
        if now_s < self.start_s - CLOCK_SKEW_S:
            return inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED
        return inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT if self.sold_out else None


def apply_changes(
    views: dict[str, SaleView], message: inventory_pb2.WatchSalesResponse
) -> dict[str, SaleView]:
    """Return the sales after a message: `views` itself, changed, or a new dictionary."""
    if message.complete:
        views = {}
    for sale in message.sales:
        if not sale.loaded and is_shadow(sale.terms.sku):
            views.pop(sale.terms.sku, None)
            continue
        views[sale.terms.sku] = SaleView.of(sale)
    for told in message.holders:
        view = views.get(told.sku)
        if view is not None:
            views[told.sku] = replace(view, holders=set(told.user_ids))
    return views


async def follow_sales(
    stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
    *,
    apply: Callable[[inventory_pb2.WatchSalesResponse], None],
    broken: Callable[[], None],
) -> None:
    """Follow the stream until cancelled, connecting again whenever it breaks.

    Args:
        apply: takes each message.
        broken: called each time the stream has ended, or could not be opened.
    """
    while True:
        # Pauses grow while nothing is heard, and start over after a stream that worked.
        async for attempt in until_success(
            "watch sales",
            on=DependencyUnavailable,
            wait_min_s=RECONNECT_MIN_S,
            wait_max_s=RECONNECT_MAX_S,
        ):
            with attempt:
                try:
                    await _follow_once(stub, apply)
                finally:
                    broken()
        await asyncio.sleep(RECONNECT_MIN_S)


async def _follow_once(
    stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
    apply: Callable[[inventory_pb2.WatchSalesResponse], None],
) -> None:
    """Follow one stream to its end; raise DependencyUnavailable if it brought no message."""
    heard = False
    reason = "the stream ended"
    try:
        async for message in stub.WatchSales(inventory_pb2.WatchSalesRequest()):
            apply(message)
            heard = True
    except grpc.aio.AioRpcError as error:
        reason = f"{error.code().name}: {error.details()}"
    if not heard:
        raise DependencyUnavailable(reason)
    log.warning("sales stream broke", reason=reason)
