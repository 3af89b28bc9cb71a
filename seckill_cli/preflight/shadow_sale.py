"""Creates shadow sales for a rehearsal, and removes them with everything that was sold."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.duration_pb2 import Duration

from seckill.shadow import WINDOW_MAX_S, new_sku
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc, sale_pb2
from seckill_cli.mesh import CALL_TIMEOUT_S
from seckill_cli.operators import Metadata

PRICE = sale_pb2.Money(currency="CNY", minor_units=1)
TITLE = "Rehearsal, no real units"
# The clocks of the stores may be behind ours.
STARTED_S = 30.0
POLL_S = 0.1
REMOVE_TIMEOUT_S = 60.0
REMOVE_PAUSE_S = 1.0
PAGE_SIZE = 100


class ShadowSales:
    """The shadow sales of a mesh, for an operator."""

    def __init__(
        self, inventory: grpc.aio.Channel, order: grpc.aio.Channel, metadata: Metadata
    ) -> None:
        self._inventory = inventory_pb2_grpc.InventoryServiceStub(inventory)
        self._order = order_pb2_grpc.OrderServiceStub(order)
        self._metadata = metadata

    @asynccontextmanager
    async def open(self, *, units: int, buckets: int) -> AsyncIterator[str]:
        """Create one that sells now; its sku. It is removed at the end, whatever happens."""
        sku = new_sku()
        try:
            await self._create(sku, units, buckets)
            yield sku
        finally:
            # Also if the command is interrupted: then the task is cancelled, and this is not.
            await asyncio.shield(asyncio.ensure_future(self.remove(sku)))

    async def _create(self, sku: str, units: int, buckets: int) -> None:
        terms = sale_pb2.SaleTerms(
            sku=sku,
            title=TITLE,
            total_units=units,
            unit_price=PRICE,
            purchase_limit=1,
            payment_window=Duration(seconds=int(WINDOW_MAX_S)),
            buckets=buckets,
        )
        terms.start_time.FromSeconds(int(time.time() - STARTED_S))
        terms.end_time.FromSeconds(terms.start_time.seconds + int(WINDOW_MAX_S))
        await self._inventory.CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_TIMEOUT_S
        )

    async def remove(self, sku: str) -> int:
        """Remove one; return how many orders it had.

        Raises:
            grpc.aio.AioRpcError: it could not be removed; the next rehearsal tries again.
        """
        request = inventory_pb2.InventoryServiceRemoveShadowSaleRequest(sku=sku)
        until_s = time.monotonic() + REMOVE_TIMEOUT_S
        while True:
            try:
                answer = await self._inventory.RemoveShadowSale(
                    request, metadata=self._metadata, timeout=REMOVE_TIMEOUT_S
                )
            except grpc.aio.AioRpcError as error:
                # Reservations are on their way, or a store is slow just after the crowd.
                again = error.code() is grpc.StatusCode.UNAVAILABLE
                if not again or time.monotonic() > until_s:
                    raise
                await asyncio.sleep(REMOVE_PAUSE_S)
            else:
                return int(answer.removed_orders)

    async def remove_leftovers(self) -> int:
        """Remove those that are over, which a rehearsal that was killed has left; how many."""
        request = inventory_pb2.ListSalesRequest(shadow=True, page_size=PAGE_SIZE)
        page = await self._inventory.ListSales(request, timeout=CALL_TIMEOUT_S)
        now_s = time.time()
        old = [
            sale.terms.sku
            for sale in page.sales
            if not sale.loaded or sale.terms.end_time.ToNanoseconds() / 1e9 < now_s
        ]
        for sku in old:
            await self.remove(sku)
        return len(old)

    async def settle(self, sku: str, *, orders: int, timeout_s: float) -> float | None:
        """Return after how many seconds all reservations are orders; None if not in time."""
        start_s = time.monotonic()
        request = order_pb2.GetSaleTotalsRequest(sku=sku)
        while True:
            totals = await self._order.GetSaleTotals(request, timeout=CALL_TIMEOUT_S)
            took_s = time.monotonic() - start_s
            if totals.pending_units + totals.rejected_units >= orders:
                return took_s
            if took_s > timeout_s:
                return None
            await asyncio.sleep(POLL_S)
