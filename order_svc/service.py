"""OrderService: checks requests, calls the repositories, shows what has changed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from order_svc import metrics
from order_svc.board import OrderBoard
from order_svc.model import STATUSES, order_of, terms_of
from order_svc.repository import Change, OrderRepository, Payment
from order_svc.sales import SaleRepository
from order_svc.settings import OrderSettings
from seckill import order_no as numbers
from seckill.clock import Clock
from seckill.errors import InvalidField, OrderNotFound, Overloaded, PaymentTooLate
from seckill.v1 import order_pb2, order_pb2_grpc
from seckill.validation import (
    Violations,
    check_terms,
    decode_page_token,
    encode_page_token,
    page_size,
)

SERVICE = "seckill.v1.OrderService"
# Keeps price times quantity inside a bigint; the schema has the same bound.
UNIT_PRICE_MAX = 9_000_000_000_000_000
# What another look may wait for.
ARRIVAL_RETRY_S = 0.2
Context = grpc.aio.ServicerContext[Any, Any]


class OrderServicer(order_pb2_grpc.OrderServiceServicer):
    """The contract's OrderService."""

    def __init__(
        self,
        *,
        settings: OrderSettings,
        sales: SaleRepository,
        orders: OrderRepository,
        board: OrderBoard,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._sales = sales
        self._orders = orders
        self._board = board
        self._clock = clock
        self._watchers = 0

    async def RegisterSale(
        self, request: order_pb2.RegisterSaleRequest, _context: Context
    ) -> order_pb2.RegisterSaleResponse:
        check_terms(request.terms)
        if request.terms.unit_price.minor_units > UNIT_PRICE_MAX:
            raise InvalidField(
                [("terms.unit_price.minor_units", f"must be at most {UNIT_PRICE_MAX}")]
            )
        sale, created = await self._sales.register(request.terms)
        return order_pb2.RegisterSaleResponse(
            terms=terms_of(sale), epoch=sale["epoch"], created=created
        )

    async def GetSaleTotals(
        self, request: order_pb2.GetSaleTotalsRequest, _context: Context
    ) -> order_pb2.GetSaleTotalsResponse:
        violations = Violations()
        violations.sku("sku", request.sku)
        violations.check()
        return order_pb2.GetSaleTotalsResponse(**dict(await self._sales.totals(request.sku)))

    async def GetOrder(
        self, request: order_pb2.GetOrderRequest, _context: Context
    ) -> order_pb2.GetOrderResponse:
        _check_number(request.order_no)
        try:
            order = await self._orders.get(request.order_no)
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        return order_pb2.GetOrderResponse(order=order_of(order))

    async def BatchGetOrders(
        self, request: order_pb2.BatchGetOrdersRequest, _context: Context
    ) -> order_pb2.BatchGetOrdersResponse:
        check_numbers(request.order_nos)
        return order_pb2.BatchGetOrdersResponse(orders=await self._board.read(request.order_nos))

    async def ListOrders(
        self, request: order_pb2.ListOrdersRequest, _context: Context
    ) -> order_pb2.ListOrdersResponse:
        violations = Violations()
        if request.sku:
            violations.sku("sku", request.sku)
        if request.user_id:
            violations.user_id("user_id", request.user_id)
        if request.state and request.state not in STATUSES:
            violations.add("state", "is no state of an order")
        violations.check()
        limit = page_size(request.page_size)
        rows = await self._orders.page(
            sku=request.sku,
            user_id=request.user_id,
            status=STATUSES.get(request.state, ""),
            before=decode_page_token(request.page_token, numbers.PATTERN),
            # One more than asked for tells whether there is a next page.
            limit=limit + 1,
        )
        token = encode_page_token(rows[limit - 1]["order_no"]) if len(rows) > limit else ""
        return order_pb2.ListOrdersResponse(
            orders=map(order_of, rows[:limit]), next_page_token=token
        )

    async def WatchOrder(
        self, request: order_pb2.WatchOrderRequest, _context: Context
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        _check_number(request.order_no)
        if self._watchers >= self._settings.order_watchers_max:
            raise Overloaded("too many orders are being watched")
        self._watchers += 1
        try:
            async for order in self._changes(request.order_no):
                yield order_pb2.WatchOrderResponse(order=order)
        finally:
            self._watchers -= 1

    async def _changes(self, order_no: str) -> AsyncIterator[order_pb2.Order]:
        ends_s = self._clock.monotonic_s() + self._settings.order_watch_max_s
        shown = b""
        while self._clock.monotonic_s() < ends_s:
            encoded = (await self._board.read([order_no]))[0]
            if not encoded:
                raise self._not_found(order_no)
            if encoded != shown:
                shown = encoded
                order = order_pb2.Order.FromString(encoded)
                yield order
                # For its buyer the matter is settled; a refund is an operator's act.
                if order.state != order_pb2.ORDER_STATE_PENDING:
                    return
            await asyncio.sleep(self._settings.order_watch_interval_s)

    async def PayOrder(
        self, request: order_pb2.PayOrderRequest, _context: Context
    ) -> order_pb2.PayOrderResponse:
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.printable("payment_id", request.payment_id, 64)
        violations.money("amount", request.amount)
        if request.user_id:
            violations.user_id("user_id", request.user_id)
        violations.check()
        payment = Payment(
            order_no=request.order_no,
            payment_id=request.payment_id,
            amount_minor=request.amount.minor_units,
            currency=request.amount.currency,
            user_id=request.user_id,
        )
        try:
            change = await self._orders.pay(payment)
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        except PaymentTooLate as error:
            if error.metadata["first_notice"] == "true":
                metrics.LATE_PAYMENTS.inc()
            raise
        await self._changed([change])
        return order_pb2.PayOrderResponse(order=order_of(change.order))

    async def CancelOrder(
        self, request: order_pb2.CancelOrderRequest, _context: Context
    ) -> order_pb2.CancelOrderResponse:
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        if request.user_id:
            violations.user_id("user_id", request.user_id)
        violations.check()
        try:
            change = await self._orders.cancel(request.order_no, user_id=request.user_id)
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        await self._changed([change])
        return order_pb2.CancelOrderResponse(order=order_of(change.order))

    async def RefundOrder(
        self, request: order_pb2.RefundOrderRequest, _context: Context
    ) -> order_pb2.RefundOrderResponse:
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.printable("refund_id", request.refund_id, 64)
        violations.check()
        try:
            change = await self._orders.refund(
                request.order_no, refund_id=request.refund_id, restock=request.restock
            )
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        await self._changed([change])
        return order_pb2.RefundOrderResponse(order=order_of(change.order))

    async def _changed(self, changes: Sequence[Change]) -> None:
        """Count what this call changed, and show what is no longer pending."""
        for change in changes:
            if change.changed:
                metrics.TRANSITIONS.labels(change.order["status"]).inc()
        # Also what was changed before: the call that did so may have died before it could tell.
        await self._board.show(
            change.order for change in changes if change.order["status"] != "pending"
        )

    def _not_found(self, order_no: str) -> OrderNotFound:
        """With a time to ask again where the order may still be on its way."""
        age_s = self._clock.now_s() - numbers.made_at_s(order_no)
        young = age_s < self._settings.order_arrival_max_s
        return OrderNotFound(retry_after_s=ARRIVAL_RETRY_S if young else None)


def _check_number(order_no: str) -> None:
    violations = Violations()
    violations.order_no("order_no", order_no)
    violations.check()


def check_numbers(order_nos: Sequence[str]) -> None:
    """Raises InvalidField unless these are 1 to 1,024 order numbers."""
    violations = Violations()
    violations.batch("order_nos", len(order_nos))
    for index, number in enumerate(order_nos):
        violations.order_no(f"order_nos[{index}]", number)
    violations.check()
