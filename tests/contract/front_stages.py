"""InventoryService and OrderService in memory, behind real gRPC servers.

For the conformance of the fronts only: what the stages themselves do is tested on real stores.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from inventory_svc.watch import sells
from seckill.errors import OrderNotFound, SaleNotFound
from seckill.server import FaultsAndMetrics
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    sale_pb2,
)

Context = grpc.aio.ServicerContext[Any, Any]


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    """Sells from a dictionary."""

    def __init__(self) -> None:
        self.sales: dict[str, sale_pb2.Sale] = {}
        self.holds: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        self.batches: list[int] = []
        self.batch_arrived = asyncio.Event()
        # Cleared by a test to hold reservations back.
        self.open = asyncio.Event()
        self.open.set()
        self.failure: grpc.StatusCode | None = None
        self._numbers = itertools.count(1)
        self._switch = inventory_pb2.KillSwitch()
        self._watchers: set[asyncio.Queue[sale_pb2.Sale | inventory_pb2.KillSwitch]] = set()

    def put(self, terms: sale_pb2.SaleTerms, *, announce: bool = True) -> str:
        """Open a sale; returns its sku."""
        sale = sale_pb2.Sale(
            terms=terms,
            state=sale_pb2.SALE_STATE_OPEN,
            remaining_units=terms.total_units,
            epoch=1,
            loaded=True,
        )
        self.sales[terms.sku] = sale
        if announce:
            self.announce(terms.sku)
        return terms.sku

    def announce(self, sku: str) -> None:
        """Tell the watchers how the sale stands."""
        for watcher in self._watchers:
            watcher.put_nowait(self.sales[sku])

    def set_kill_switch(self, *, on: bool) -> None:
        """Throw or lift it, and tell the watchers; reservations are made all the same."""
        self._switch = inventory_pb2.KillSwitch(on=on)
        for watcher in self._watchers:
            watcher.put_nowait(self._switch)

    def _reserve(self, sku: str, item: inventory_pb2.ReserveItem) -> inventory_pb2.ReserveResult:
        sale, holds = self.sales[sku], self.holds[sku]
        if item.user_id in holds:
            order_no, request_id = holds[item.user_id]
            same = request_id == item.request_id
            return inventory_pb2.ReserveResult(
                outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED
                if same
                else inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED,
                order_no=order_no,
            )
        if sale.remaining_units < item.quantity:
            return inventory_pb2.ReserveResult(outcome=inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT)
        sale.remaining_units -= item.quantity
        sale.sold_out = sale.remaining_units == 0
        order_no = f"{next(self._numbers):026d}"
        holds[item.user_id] = (order_no, item.request_id)
        if sale.sold_out:
            self.announce(sku)
        return inventory_pb2.ReserveResult(
            outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED, order_no=order_no
        )

    async def BatchReserve(
        self, request: inventory_pb2.BatchReserveRequest, context: Context
    ) -> inventory_pb2.BatchReserveResponse:
        self.batches.append(len(request.items))
        self.batch_arrived.set()
        await self.open.wait()
        if self.failure is not None:
            await context.abort(self.failure, "injected")
        if request.sku not in self.sales:
            raise SaleNotFound
        results = [self._reserve(request.sku, item) for item in request.items]
        return inventory_pb2.BatchReserveResponse(results=results)

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, _context: Context
    ) -> inventory_pb2.GetSaleResponse:
        if request.sku not in self.sales:
            raise SaleNotFound
        return inventory_pb2.GetSaleResponse(sale=self.sales[request.sku])

    async def ListSales(
        self, request: inventory_pb2.ListSalesRequest, _context: Context
    ) -> inventory_pb2.ListSalesResponse:
        found = sorted(self.sales.values(), key=lambda sale: sale.terms.sku)
        return inventory_pb2.ListSalesResponse(sales=found[: request.page_size])

    async def WatchSales(
        self, _request: inventory_pb2.WatchSalesRequest, _context: Context
    ) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        changes: asyncio.Queue[sale_pb2.Sale | inventory_pb2.KillSwitch] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            yield inventory_pb2.WatchSalesResponse(
                sales=self.sales.values(), complete=True, kill_switch=self._switch
            )
            while True:
                sale = await changes.get()
                if isinstance(sale, inventory_pb2.KillSwitch):
                    yield inventory_pb2.WatchSalesResponse(kill_switch=sale)
                    continue
                message = inventory_pb2.WatchSalesResponse(sales=[sale])
                if not sells(sale, now_s=time.time()):
                    sku = sale.terms.sku
                    message.holders.add(sku=sku, user_ids=list(self.holds[sku]))
                yield message
        finally:
            self._watchers.discard(changes)


class Orders(order_pb2_grpc.OrderServiceServicer):
    """Orders from a dictionary."""

    def __init__(self) -> None:
        self.orders: dict[str, order_pb2.Order] = {}
        self.batches: list[int] = []

    async def BatchGetOrders(
        self, request: order_pb2.BatchGetOrdersRequest, _context: Context
    ) -> order_pb2.BatchGetOrdersResponse:
        self.batches.append(len(request.order_nos))
        found = [self.orders.get(number) for number in request.order_nos]
        return order_pb2.BatchGetOrdersResponse(
            orders=[b"" if order is None else order.SerializeToString() for order in found]
        )

    async def CancelOrder(
        self, request: order_pb2.CancelOrderRequest, _context: Context
    ) -> order_pb2.CancelOrderResponse:
        order = self._own(request.order_no, request.user_id)
        order.state = order_pb2.ORDER_STATE_CANCELLED
        return order_pb2.CancelOrderResponse(order=order)

    async def PayOrder(
        self, request: order_pb2.PayOrderRequest, _context: Context
    ) -> order_pb2.PayOrderResponse:
        order = self._own(request.order_no, request.user_id)
        order.state = order_pb2.ORDER_STATE_PAID
        order.payment_id = request.payment_id
        return order_pb2.PayOrderResponse(order=order)

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, _context: Context
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        yield order_pb2.WatchOrderResponse(order=self.orders[request.order_no])

    def _own(self, order_no: str, user_id: str) -> order_pb2.Order:
        order = self.orders.get(order_no)
        if order is None or order.user_id != user_id:
            raise OrderNotFound
        return order


@dataclass
class Stages:
    """Both, and where they listen."""

    server: grpc.aio.Server
    inventory: Inventory = field(default_factory=Inventory)
    orders: Orders = field(default_factory=Orders)
    port: int = 0

    async def stop(self) -> None:
        """Go away, now."""
        await self.server.stop(None)


@asynccontextmanager
async def running_stages(port: int = 0) -> AsyncIterator[Stages]:
    """Serve both on one port."""
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()], options=[("grpc.so_reuseport", 0)])
    stages = Stages(server)
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(stages.inventory, server)
    order_pb2_grpc.add_OrderServiceServicer_to_server(stages.orders, server)
    stages.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield stages
    finally:
        await stages.stop()
