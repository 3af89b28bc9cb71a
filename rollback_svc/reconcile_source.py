"""Reads a sale from Redis and from the database, through the services that own them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from seckill.errors import Overloaded
from seckill.status import from_rpc_error
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc, sale_pb2

PAGE_SIZE = 1_000


@dataclass(frozen=True)
class Holds:
    """The holds of a sale at one moment, if `summary.consistent`."""

    by_user: dict[str, inventory_pb2.Hold]
    summary: inventory_pb2.HoldsSummary


@contextmanager
def _faults(service: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service=service) from error


class ReconcileSource:
    """Reads holds and orders, and repairs. SeckillError if a service refuses or does not answer."""

    def __init__(
        self, *, to_orders: grpc.aio.Channel, to_inventory: grpc.aio.Channel, holds_max: int
    ) -> None:
        """`holds_max`: a sale with more holds is not read."""
        self._orders = order_pb2_grpc.OrderServiceStub(to_orders)
        self._inventory = inventory_pb2_grpc.InventoryServiceStub(to_inventory)
        self._holds_max = holds_max

    async def sales(self, *, timeout_s: float) -> list[sale_pb2.Sale]:
        """Return all sales, loaded or not; `timeout_s` for each page of them."""
        found: list[sale_pb2.Sale] = []
        request = inventory_pb2.ListSalesRequest(page_size=PAGE_SIZE)
        with _faults("inventory"):
            while True:
                page = await self._inventory.ListSales(request, timeout=timeout_s)
                found += page.sales
                if not page.next_page_token:
                    return found
                request.page_token = page.next_page_token

    async def lost_sales(self, *, timeout_s: float) -> list[str]:
        """Return the skus of sales that Redis has lost; `timeout_s` for each page of sales."""
        found: list[str] = []
        request = inventory_pb2.ListLostSalesRequest(page_size=PAGE_SIZE)
        with _faults("inventory"):
            while True:
                page = await self._inventory.ListLostSales(request, timeout=timeout_s)
                found += page.skus
                if not page.next_page_token:
                    return found
                request.page_token = page.next_page_token

    async def sync(self, sku: str, *, timeout_s: float) -> None:
        """Bring Redis and the record together in what operators changed of a loaded sale."""
        request = inventory_pb2.SyncSaleRequest(sku=sku)
        with _faults("inventory"):
            await self._inventory.SyncSale(request, timeout=timeout_s)

    async def holds(self, sku: str, *, timeout_s: float) -> Holds:
        """Return the holds that Redis has; raises Overloaded if there are too many to compare."""
        by_user: dict[str, inventory_pb2.Hold] = {}
        summary = inventory_pb2.HoldsSummary()
        request = inventory_pb2.ListHoldsRequest(sku=sku)
        with _faults("inventory"):
            async for part in self._inventory.ListHolds(request, timeout=timeout_s):
                by_user |= {hold.user_id: hold for hold in part.holds}
                if len(by_user) > self._holds_max:
                    raise Overloaded(f"the sale has more than {self._holds_max} holds")
                if part.HasField("summary"):
                    summary = part.summary
        return Holds(by_user, summary)

    async def await_consumed(self, *, timeout_s: float) -> None:
        """Return once what Kafka has now is in the database."""
        with _faults("order"):
            await self._orders.AwaitConsumed(order_pb2.AwaitConsumedRequest(), timeout=timeout_s)

    async def orders(
        self, sku: str, *, timeout_s: float
    ) -> AsyncIterator[Sequence[order_pb2.SaleOrder]]:
        """Yield the orders that the database has at one moment, page by page."""
        request = order_pb2.SnapshotSaleRequest(sku=sku)
        with _faults("order"):
            async for part in self._orders.SnapshotSale(request, timeout=timeout_s):
                yield part.orders

    async def repair(
        self, request: inventory_pb2.RepairHoldsRequest, *, timeout_s: float
    ) -> inventory_pb2.RepairHoldsResponse:
        """Make Redis agree with the database, as far as the request says."""
        with _faults("inventory"):
            return await self._inventory.RepairHolds(request, timeout=timeout_s)
