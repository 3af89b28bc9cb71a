"""Orders as order_svc has them: polling in batches, the rest one by one."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gateway.ages import older
from gateway.batching import Batcher, PendingItem
from gateway.front.call import Call
from seckill.errors import DependencyUnavailable, OrderNotFound, SeckillError
from seckill.front.peers import PEER_METADATA
from seckill.order_no import made_at_s
from seckill.runtime import tracing
from seckill.runtime.server import time_left_s
from seckill.status import from_rpc_error, reason_of
from seckill.v1 import gateway_pb2, order_pb2, order_pb2_grpc, payment_pb2, sale_pb2

# When to ask again for an unknown order that may be on its way to the database.
YOUNG_RETRY_S = 0.5
# A look at a sale does not wait for longer until it is known what may come back.
UNPAID_TIMEOUT_S = 0.5
# Field 1, length-delimited: how an Order stands in GatewayServiceGetOrderResponse.
ORDER_TAG = b"\x0a"
# Headers that sign nothing, and are none of order_svc's business.
NOT_FOR_ORDERS = frozenset({"authorization", "cookie", PEER_METADATA})
# What order_svc says of an order that does not exist, or is not the buyer's: callers hear the same.
MISSING = frozenset({"ORDER_NOT_FOUND", "NOT_ALLOWED"})


class Poll(PendingItem):
    """One buyer asking for one order."""

    __slots__ = ("call", "order_no", "user_id")

    def __init__(self, call: Call, *, order_no: str, user_id: str) -> None:
        self.call = call
        self.order_no = order_no
        self.user_id = user_id

    def fail(self, error: SeckillError) -> None:
        self.call.fail(error)


def order_response(encoded: bytes) -> bytes:
    """GatewayServiceGetOrderResponse around an Order that is serialized already."""
    length = len(encoded)
    prefix = bytearray(ORDER_TAG)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + encoded


class Orders:
    """The gateway's side of OrderService."""

    def __init__(
        self,
        stub: "order_pb2_grpc.OrderServiceAsyncStub",
        *,
        batch_max: int,
        in_flight_max: int,
        waiting_max: int,
        timeout_s: float,
        arrival_max_s: float,
    ) -> None:
        """The limits are those of a Batcher; `timeout_s` also bounds the other calls.

        `arrival_max_s`: age from which on an unknown order number is unknown for good.
        """
        self._stub = stub
        self._timeout_s = timeout_s
        self._arrival_max_s = arrival_max_s
        self._batcher: Batcher[Poll] = Batcher(
            self._read,
            service="order",
            batch_max=batch_max,
            in_flight_max=in_flight_max,
            waiting_max=waiting_max,
            timeout_s=timeout_s,
        )

    def add(self, poll: Poll) -> None:
        """Queue a poll; `flush` sends. Raises Overloaded if too many wait."""
        self._batcher.add(poll)

    def flush(self) -> None:
        """Send what waits."""
        self._batcher.flush()

    async def _read(self, batch: Sequence[Poll], timeout_s: float) -> None:
        request = order_pb2.BatchGetOrdersRequest(order_nos=[poll.order_no for poll in batch])
        asked_s = time.monotonic()
        try:
            response = await self._stub.BatchGetOrders(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="order") from error
        if len(response.orders) != len(batch):
            raise DependencyUnavailable("order answered for another batch")
        now_s = time.time()
        # In protobuf's encoding, messages one after another are their union.
        age = b""
        if response.HasField("age"):
            told = gateway_pb2.GatewayServiceGetOrderResponse(
                age=older(response.age, time.monotonic() - asked_s)
            )
            age = told.SerializeToString()
        for poll, encoded in zip(batch, response.orders, strict=True):
            self._answer(poll, encoded, now_s, age)

    async def unpaid_units(self, sku: str) -> sale_pb2.UnpaidUnits | None:
        """Return the units of a sale that may come back; None if order_svc does not answer soon."""
        request = order_pb2.GetUnpaidUnitsRequest(sku=sku)
        try:
            response = await self._stub.GetUnpaidUnits(request, timeout=UNPAID_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
        return response.unpaid

    async def cancel(
        self, order_no: str, *, user_id: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> order_pb2.Order:
        """Give an order up, if it is this buyer's. Raises what order_svc answers."""
        request = order_pb2.CancelOrderRequest(order_no=order_no, user_id=user_id)
        try:
            response = await self._stub.CancelOrder(
                request, timeout=time_left_s(context, self._timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            raise self._fault(error, order_no) from error
        return response.order

    async def pay(
        self,
        payment: gateway_pb2.GatewayServicePayOrderRequest,
        *,
        user_id: str,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> order_pb2.Order:
        """Pay an order, if it is this buyer's. Raises what order_svc answers."""
        request = order_pb2.PayOrderRequest(
            order_no=payment.order_no,
            payment_id=payment.payment_id,
            amount=payment.amount,
            user_id=user_id,
        )
        try:
            response = await self._stub.PayOrder(
                request, timeout=time_left_s(context, self._timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            raise self._fault(error, payment.order_no) from error
        return response.order

    async def receive_callback(
        self,
        callback: gateway_pb2.GatewayServiceReceivePaymentCallbackRequest,
        *,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> payment_pb2.Payment:
        """Pass a payment provider's callback on, with its headers. Raises what order_svc answers.

        Returns:
            What became of the payment; an empty message if the callback told of none.
        """
        headers = {
            key: value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str) and key not in NOT_FOR_ORDERS
        }
        request = order_pb2.ReceivePaymentCallbackRequest(
            provider=callback.provider, headers=headers, body=callback.body.data
        )
        try:
            response = await self._stub.ReceivePaymentCallback(
                request, timeout=time_left_s(context, self._timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="order") from error
        return response.payment

    async def watch(self, order_no: str, *, user_id: str) -> AsyncIterator[order_pb2.Order]:
        """An order at each change, if it is this buyer's. Raises what order_svc answers."""
        request = order_pb2.WatchOrderRequest(order_no=order_no)
        try:
            async for response in self._stub.WatchOrder(request, metadata=tracing.outgoing()):
                if response.order.user_id != user_id:
                    raise self._missing(order_no, now_s=time.time())
                yield response.order
        except grpc.aio.AioRpcError as error:
            raise self._fault(error, order_no) from error

    def _answer(self, poll: Poll, encoded: bytes, now_s: float, age: bytes) -> None:
        """Answer a poll; `age`: a serialized response with nothing but the age of the order."""
        if not encoded:
            poll.call.fail(self._missing(poll.order_no, now_s=now_s))
            return
        try:
            owner = order_pb2.Order.FromString(encoded).user_id
        except DecodeError:
            poll.call.fail(SeckillError("the order cannot be read"))
            return
        if owner == poll.user_id:
            poll.call.respond(order_response(encoded) + age)
        else:
            # As if there were none: whose numbers exist is nobody else's business.
            poll.call.fail(self._missing(poll.order_no, now_s=now_s))

    def _missing(self, order_no: str, *, now_s: float) -> OrderNotFound:
        """The error for an unknown number: one so young may yet appear, and is worth asking again.

        It may have lost its way to the database, and been sent again.
        """
        young = abs(now_s - made_at_s(order_no)) < self._arrival_max_s
        return OrderNotFound(
            retry_after_s=YOUNG_RETRY_S if young else None, metadata={"order_no": order_no}
        )

    def _fault(self, error: grpc.aio.AioRpcError, order_no: str) -> SeckillError:
        """The fault to raise for a failed call about one buyer's order."""
        if reason_of(error) in MISSING:
            return self._missing(order_no, now_s=time.time())
        return from_rpc_error(error, service="order")
