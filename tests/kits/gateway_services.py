"""InventoryService, OrderService and the gate's rules in memory, behind real gRPC servers.

For the conformance of the fronts only: what the services themselves do is tested on real stores.
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
from google.protobuf.duration_pb2 import Duration

from inventory_svc.sales.window import sells
from seckill.errors import NotAllowed, OrderNotFound, SaleNotFound
from seckill.runtime.server import FaultsAndMetrics
from seckill.v1 import (
    gate_pb2,
    gate_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    payment_pb2,
    sale_pb2,
)

Context = grpc.aio.ServicerContext[Any, Any]


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    """Sells from a dictionary."""

    def __init__(self) -> None:
        self.sales: dict[str, sale_pb2.Sale] = {}
        self.holds: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        # Order number → units.
        self.quantities: dict[str, int] = {}
        self.batches: list[int] = []
        # What was asked for by GetSale, and by ListSales.
        self.asked: list[str] = []
        self.listed: list[inventory_pb2.ListSalesRequest] = []
        self.batch_arrived = asyncio.Event()
        # Cleared by a test to hold reservations back.
        self.open = asyncio.Event()
        self.open.set()
        self.failure: grpc.StatusCode | None = None
        # Of what is told to callers who allow a replica; None if the primary tells.
        self.age: Duration | None = None
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
        """Enable or disable it, and tell the watchers; reservations are made all the same."""
        self._switch = inventory_pb2.KillSwitch(on=on)
        for watcher in self._watchers:
            watcher.put_nowait(self._switch)

    def _reserve(self, sku: str, item: inventory_pb2.ReserveItem) -> inventory_pb2.ReserveResult:
        sale, holds = self.sales[sku], self.holds[sku]
        for other, others in self.holds.items():
            if other != sku and others.get(item.user_id, ("", ""))[1] == item.request_id:
                return inventory_pb2.ReserveResult(outcome=inventory_pb2.PURCHASE_OUTCOME_OTHER_SKU)
        if item.user_id in holds:
            order_no, request_id = holds[item.user_id]
            same = request_id == item.request_id
            if same and item.quantity != self.quantities[order_no]:
                return inventory_pb2.ReserveResult(
                    outcome=inventory_pb2.PURCHASE_OUTCOME_OTHER_QUANTITY
                )
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
        self.quantities[order_no] = item.quantity
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
        self.asked.append(request.sku)
        if request.sku not in self.sales:
            raise SaleNotFound
        age = self.age if request.replica_allowed else None
        return inventory_pb2.GetSaleResponse(sale=self.sales[request.sku], age=age)

    async def ListSales(
        self, request: inventory_pb2.ListSalesRequest, _context: Context
    ) -> inventory_pb2.ListSalesResponse:
        self.listed.append(request)
        found = sorted(self.sales.values(), key=lambda sale: sale.terms.sku)
        age = self.age if request.replica_allowed else None
        return inventory_pb2.ListSalesResponse(sales=found[: request.page_size], age=age)

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
        # Watches that are open; whether a watch goes on once it has told how the order is.
        self.watches = 0
        self.hold_watches = False
        self.callbacks: list[order_pb2.ReceivePaymentCallbackRequest] = []
        # What may come back of each sale; None while it cannot be told.
        self.unpaid: sale_pb2.UnpaidUnits | None = sale_pb2.UnpaidUnits()
        # Of what BatchGetOrders tells; None if the primary tells.
        self.age: Duration | None = None

    async def GetUnpaidUnits(
        self, _request: order_pb2.GetUnpaidUnitsRequest, context: Context
    ) -> order_pb2.GetUnpaidUnitsResponse:
        if self.unpaid is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
        return order_pb2.GetUnpaidUnitsResponse(unpaid=self.unpaid)

    async def BatchGetOrders(
        self, request: order_pb2.BatchGetOrdersRequest, _context: Context
    ) -> order_pb2.BatchGetOrdersResponse:
        self.batches.append(len(request.order_nos))
        found = [self.orders.get(number) for number in request.order_nos]
        return order_pb2.BatchGetOrdersResponse(
            orders=[b"" if order is None else order.SerializeToString() for order in found],
            age=self.age,
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

    async def ReceivePaymentCallback(
        self, request: order_pb2.ReceivePaymentCallbackRequest, _context: Context
    ) -> order_pb2.ReceivePaymentCallbackResponse:
        self.callbacks.append(request)
        payment = payment_pb2.Payment(state=payment_pb2.PAYMENT_STATE_TO_REFUND)
        return order_pb2.ReceivePaymentCallbackResponse(payment=payment)

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, _context: Context
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        self.watches += 1
        try:
            if request.order_no not in self.orders:
                raise OrderNotFound
            yield order_pb2.WatchOrderResponse(order=self.orders[request.order_no])
            if self.hold_watches:
                await asyncio.Event().wait()
        finally:
            self.watches -= 1

    def _own(self, order_no: str, user_id: str) -> order_pb2.Order:
        order = self.orders.get(order_no)
        if order is None:
            raise OrderNotFound
        if order.user_id != user_id:
            raise NotAllowed
        return order


class Rules(gate_pb2_grpc.GateRulesServiceServicer):
    """Rules of the gate that a test sets; each change is a snapshot of all."""

    def __init__(self) -> None:
        self.limits: dict[str, float] = {}
        self.entries: list[gate_pb2.GateEntry] = []
        self.policies: dict[str, gate_pb2.SalePolicy] = {}
        self.revision = 0
        self._watchers: set[asyncio.Event] = set()

    def announce(self) -> int:
        """Number the entries, and tell the watchers of the rules; returns their revision."""
        self.revision += 1
        for number, entry in enumerate(self.entries, 1):
            entry.id = number
        for watcher in self._watchers:
            watcher.set()
        return self.revision

    async def WatchGateRules(
        self, _request: gate_pb2.WatchGateRulesRequest, _context: Context
    ) -> AsyncIterator[gate_pb2.WatchGateRulesResponse]:
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                yield gate_pb2.WatchGateRulesResponse(
                    revision=self.revision,
                    snapshot=True,
                    limits=[
                        gate_pb2.GateLimit(name=name, value=value)
                        for name, value in self.limits.items()
                    ],
                    entries=self.entries,
                    policies=self.policies.values(),
                )
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.discard(changed)


@dataclass
class Services:
    """All of them, and where they listen."""

    server: grpc.aio.Server
    inventory: Inventory = field(default_factory=Inventory)
    orders: Orders = field(default_factory=Orders)
    rules: Rules = field(default_factory=Rules)
    port: int = 0

    async def stop(self) -> None:
        """Go away, now."""
        await self.server.stop(None)


@asynccontextmanager
async def running_services(port: int = 0) -> AsyncIterator[Services]:
    """Serve all on one port."""
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()], options=[("grpc.so_reuseport", 0)])
    services = Services(server)
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(services.inventory, server)
    order_pb2_grpc.add_OrderServiceServicer_to_server(services.orders, server)
    gate_pb2_grpc.add_GateRulesServiceServicer_to_server(services.rules, server)
    services.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield services
    finally:
        await services.stop()
