"""Handles the RPCs that read orders and end them for buyers and operators."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from math import ceil

from order_svc.orders.model import STATUSES, order_of
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import OrderRepository
from order_svc.settings import OrderSettings
from seckill import order_no as numbers
from seckill.errors import OrderNotFound, Overloaded
from seckill.runtime.clock import Clock
from seckill.v1 import order_pb2
from seckill.validation import Violations, decode_page_token, encode_page_token, page_size

# When to ask again for an order that may still be on its way to the database.
ARRIVAL_RETRY_S = 0.2


class OrderHandlers:
    """Reads, cancels and refunds orders."""

    def __init__(
        self,
        *,
        settings: OrderSettings,
        orders: OrderRepository,
        reader: OrderReader,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._orders = orders
        self._reader = reader
        self._clock = clock
        self._watchers = 0

    async def get(self, request: order_pb2.GetOrderRequest) -> order_pb2.GetOrderResponse:
        """Handle GetOrder."""
        _check_number(request.order_no)
        try:
            order = await self._orders.get(request.order_no)
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        return order_pb2.GetOrderResponse(order=order_of(order))

    async def batch_get(
        self, request: order_pb2.BatchGetOrdersRequest
    ) -> order_pb2.BatchGetOrdersResponse:
        """Handle BatchGetOrders."""
        check_numbers(request.order_nos)
        orders, age_s = await self._reader.read(request.order_nos)
        answer = order_pb2.BatchGetOrdersResponse(orders=orders)
        if age_s is not None:
            answer.age.FromNanoseconds(ceil(age_s * 1e9))
        return answer

    async def list(self, request: order_pb2.ListOrdersRequest) -> order_pb2.ListOrdersResponse:
        """Handle ListOrders."""
        violations = Violations()
        if request.sku:
            violations.sku("sku", request.sku)
        if request.user_id:
            violations.user_id("user_id", request.user_id)
        if request.state and request.state not in STATUSES:
            violations.add("state", "is not a state of an order")
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

    async def watch(
        self, request: order_pb2.WatchOrderRequest
    ) -> AsyncIterator[order_pb2.WatchOrderResponse]:
        """Handle WatchOrder."""
        _check_number(request.order_no)
        if self._watchers >= self._settings.order_watchers_max:
            raise Overloaded("too many orders are being watched")
        self._watchers += 1
        try:
            async for order in self._follow(request.order_no):
                yield order_pb2.WatchOrderResponse(order=order)
        finally:
            self._watchers -= 1

    async def _follow(self, order_no: str) -> AsyncIterator[order_pb2.Order]:
        ends_s = self._clock.monotonic_s() + self._settings.order_watch_max_s
        shown = b""
        while self._clock.monotonic_s() < ends_s:
            (encoded,), _ = await self._reader.read([order_no])
            if not encoded:
                raise self._not_found(order_no)
            if encoded != shown:
                shown = encoded
                order = order_pb2.Order.FromString(encoded)
                yield order
                # For its buyer this state is final; a refund is an operator's act.
                if order.state != order_pb2.ORDER_STATE_PENDING:
                    return
            await asyncio.sleep(self._settings.order_watch_interval_s)

    async def cancel(self, request: order_pb2.CancelOrderRequest) -> order_pb2.CancelOrderResponse:
        """Handle CancelOrder."""
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        if request.user_id:
            violations.user_id("user_id", request.user_id)
        violations.check()
        try:
            change = await self._orders.cancel(request.order_no, user_id=request.user_id)
        except OrderNotFound as error:
            raise self._not_found(request.order_no) from error
        await self._reader.publish([change])
        return order_pb2.CancelOrderResponse(order=order_of(change.order))

    async def refund(self, request: order_pb2.RefundOrderRequest) -> order_pb2.RefundOrderResponse:
        """Handle RefundOrder."""
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
        await self._reader.publish([change])
        return order_pb2.RefundOrderResponse(order=order_of(change.order))

    def _not_found(self, order_no: str) -> OrderNotFound:
        """Return the error, with a time to ask again if the order may still be on its way."""
        age_s = self._clock.now_s() - numbers.made_at_s(order_no)
        young = age_s < self._settings.order_arrival_max_s
        return OrderNotFound(retry_after_s=ARRIVAL_RETRY_S if young else None)


def _check_number(order_no: str) -> None:
    violations = Violations()
    violations.order_no("order_no", order_no)
    violations.check()


def check_numbers(order_nos: Sequence[str]) -> None:
    """Raise InvalidField unless these are 1 to 1,024 order numbers."""
    violations = Violations()
    violations.batch("order_nos", len(order_nos))
    for index, number in enumerate(order_nos):
        violations.order_no(f"order_nos[{index}]", number)
    violations.check()
