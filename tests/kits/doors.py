"""Doors through which a simulated buyer can buy beside the gateway's own gRPC.

A door has the methods of GatewayService's stub, so that one buyer (seckill_cli.demo.buyer) can use
any of them.
"""

import functools
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import Message

from bench.flow.json_form import OK, PATHS, request_of, response_of, status_of
from seckill.client import SeckillClient
from seckill.client.errors import DETAILS_KEY
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
)
from tests.kits.edge import Edge

Gateway: TypeAlias = "gateway_pb2_grpc.GatewayServiceAsyncStub"
Metadata: TypeAlias = Sequence[tuple[str, str]]


class DoorClient(SeckillClient):
    """A client that makes its calls at a door."""

    def __init__(self, door: object) -> None:
        """`door`: a stub of GatewayService, or what has the methods of one that are called."""
        # Connects only if it is called, and it never is.
        super().__init__("unused:1")
        self._stub = cast("Gateway", door)


class InventoryDoor:
    """Buys at InventoryService, pays at OrderService: as another backend would.

    A buyer's identity is their user id here: these services trust their callers.
    """

    def __init__(
        self, inventory: Sequence[grpc.aio.Channel], orders: Sequence[grpc.aio.Channel] = ()
    ) -> None:
        """`inventory`, `orders`: channels to replicas, called in turn."""
        self._inventory = itertools.cycle(
            [inventory_pb2_grpc.InventoryServiceStub(channel) for channel in inventory]
        )
        self._orders = itertools.cycle(
            [order_pb2_grpc.OrderServiceStub(channel) for channel in orders]
        )

    async def IssuePurchaseToken(
        self, _request: gateway_pb2.IssuePurchaseTokenRequest, **_: Any
    ) -> gateway_pb2.IssuePurchaseTokenResponse:
        """Return a token that is never looked at: InventoryService needs none."""
        return gateway_pb2.IssuePurchaseTokenResponse(purchase_token="unused")

    async def Purchase(
        self, request: gateway_pb2.PurchaseRequest, *, metadata: Metadata, **options: Any
    ) -> gateway_pb2.PurchaseResponse:
        """Reserve. Raises AioRpcError."""
        item = inventory_pb2.ReserveItem(
            user_id=dict(metadata)["authorization"].removeprefix("Bearer "),
            request_id=request.request_id,
            quantity=request.quantity,
        )
        answer = await next(self._inventory).Reserve(
            inventory_pb2.ReserveRequest(sku=request.sku, item=item), **options
        )
        return gateway_pb2.PurchaseResponse(
            outcome=answer.result.outcome, order_no=answer.result.order_no
        )

    async def PayOrder(
        self,
        request: gateway_pb2.GatewayServicePayOrderRequest,
        *,
        metadata: Metadata,
        **options: Any,
    ) -> gateway_pb2.GatewayServicePayOrderResponse:
        """Pay as a payment service does, whose notices name no buyer. Raises AioRpcError."""
        del metadata
        notice = order_pb2.PayOrderRequest(
            order_no=request.order_no, payment_id=request.payment_id, amount=request.amount
        )
        answer = await next(self._orders).PayOrder(notice, **options)
        return gateway_pb2.GatewayServicePayOrderResponse(order=answer.order)


class JsonDoor:
    """Calls GatewayService through the edge as JSON over HTTP, as a page does."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Message]]:
        """Return a method of the stub, if it has a JSON form and is not a stream."""
        if method not in PATHS:
            raise AttributeError(method)
        return functools.partial(self._call, method)

    async def _call(
        self, method: str, request: Message, *, metadata: Metadata = (), **_: Any
    ) -> Message:
        asked = request_of(method, request)
        headers = {key: value for key, value in metadata if key == "authorization"}
        answer = await self._edge.call(asked.verb, asked.path, asked.body, headers=headers)
        if answer.status == OK:
            return response_of(method, answer.body)
        code, details = status_of(answer.status, answer.body)
        trailing = grpc.aio.Metadata((DETAILS_KEY, details.SerializeToString()))
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details.message)
