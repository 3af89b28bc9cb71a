"""What WatchSales tells of the sales: for the gateway, and for the agent of the edge."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
import structlog

from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from seckill.validation import PURCHASE_LIMIT_MAX

# Near the edges of the window the script decides, by the one clock that counts.
CLOCK_SKEW_S = 1.0
RECONNECT_LEAST_S = 0.1
RECONNECT_MOST_S = 2.0
# A caller who names his sku in this metadata is refused by a status (see gateway.proto).
SKU_METADATA = "seckill-sku"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SaleView:
    """A sale at one moment. Each snapshot makes a new object, even where nothing differs.

    Attributes:
        start_s, end_s: Unix time.
        limit: most units in one purchase.
        holders: while the sale sells nothing, everybody who holds units of it or did: whoever is
            not among them would be refused by the script. None where that is not known.
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
        """The view of a snapshot."""
        terms = sale.terms
        return cls(
            state=sale.state,
            start_s=terms.start_time.ToNanoseconds() / 1e9,
            end_s=terms.end_time.ToNanoseconds() / 1e9,
            # Of a sale that is not loaded nothing is known; inventory will say what it lacks.
            limit=(terms.purchase_limit or 1) if sale.loaded else PURCHASE_LIMIT_MAX,
            sold_out=sale.sold_out,
            loaded=sale.loaded,
        )

    def refusal(self, now_s: float) -> int | None:
        """The PurchaseOutcome that any new buyer would get now, or None where it takes the script.

        `now_s`: Unix time by our own clock.
        """
        if not self.loaded:
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
    """The sales after a message of the stream: `views` itself, changed, or a new dictionary."""
    if message.complete:
        views = {}
    for sale in message.sales:
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
    """Follow the stream for ever, connecting again where it breaks.

    Args:
        apply: takes each message.
        broken: called each time the stream has ended, or could not be opened.
    """
    backoff_s = RECONNECT_LEAST_S
    while True:
        try:
            async for message in stub.WatchSales(inventory_pb2.WatchSalesRequest()):
                apply(message)
                backoff_s = RECONNECT_LEAST_S
        except grpc.aio.AioRpcError as error:
            log.warning("sales stream broke", code=error.code().name, why=error.details())
        broken()
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        backoff_s = min(2 * backoff_s, RECONNECT_MOST_S)
