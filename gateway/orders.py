"""Orders as order_svc has them: polling in batches, the rest one by one."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from gateway.coalescing import Lane, Waiting
from gateway.front.call import Call
from seckill.errors import (
    DependencyUnavailable,
    NotAllowed,
    OrderNotFound,
    SeckillError,
    from_rpc_error,
)
from seckill.order_no import made_at_s
from seckill.server import time_left_s
from seckill.v1 import gateway_pb2, order_pb2, order_pb2_grpc

# So long a reserved order may be on its way to the database before its absence means anything.
YOUNG_S = 60.0
YOUNG_RETRY_S = 0.5
# Field 1, length-delimited: how an Order stands in GatewayServiceGetOrderResponse.
ORDER_TAG = b"\x0a"


class Poll(Waiting):
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


def order_missing(order_no: str, *, now_s: float) -> OrderNotFound:
    """The error for an unknown number: one so young may yet appear, and is worth asking again."""
    young = -YOUNG_S < now_s - made_at_s(order_no) < YOUNG_S
    return OrderNotFound(
        retry_after_s=YOUNG_RETRY_S if young else None, metadata={"order_no": order_no}
    )


class Orders:
    """The gateway's side of OrderService."""

    def __init__(
        self,
        stub: "order_pb2_grpc.OrderServiceAsyncStub",
        *,
        batch_max: int,
        under_way_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """The limits are those of a Lane; `timeout_s` also bounds the other calls."""
        self._stub = stub
        self._timeout_s = timeout_s
        self._lane: Lane[Poll] = Lane(
            self._read,
            stage="order",
            batch_max=batch_max,
            under_way_max=under_way_max,
            waiting_max=waiting_max,
            timeout_s=timeout_s,
        )

    def add(self, poll: Poll) -> None:
        """Queue a poll; `kick` sends. Raises Overloaded where too many wait."""
        self._lane.add(poll)

    def kick(self) -> None:
        """Send what waits."""
        self._lane.kick()

    async def _read(self, batch: Sequence[Poll], timeout_s: float) -> None:
        request = order_pb2.BatchGetOrdersRequest(order_nos=[poll.order_no for poll in batch])
        try:
            response = await self._stub.BatchGetOrders(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, stage="order") from error
        if len(response.orders) != len(batch):
            raise DependencyUnavailable("order answered for another batch")
        now_s = time.time()
        for poll, encoded in zip(batch, response.orders, strict=True):
            _answer(poll, encoded, now_s)

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
            raise from_rpc_error(error, stage="order") from error
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
            raise from_rpc_error(error, stage="order") from error
        return response.order

    async def watch(self, order_no: str, *, user_id: str) -> AsyncIterator[order_pb2.Order]:
        """An order at each change, if it is this buyer's. Raises what order_svc answers."""
        request = order_pb2.WatchOrderRequest(order_no=order_no)
        try:
            async for response in self._stub.WatchOrder(request):
                if response.order.user_id != user_id:
                    raise NotAllowed("this order is another buyer's")
                yield response.order
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, stage="order") from error


def _answer(poll: Poll, encoded: bytes, now_s: float) -> None:
    if not encoded:
        poll.call.fail(order_missing(poll.order_no, now_s=now_s))
        return
    try:
        owner = order_pb2.Order.FromString(encoded).user_id
    except DecodeError:
        poll.call.fail(SeckillError("the order cannot be read"))
        return
    if owner == poll.user_id:
        poll.call.respond(order_response(encoded))
    else:
        poll.call.fail(NotAllowed("this order is another buyer's"))
