"""The methods that are not hot, on grpc.aio."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from gateway.admission import Admission, Moment
from gateway.identity import IdentityKeyUnknown
from gateway.jwks import KeySet
from gateway.orders import Orders
from gateway.service_name import SERVICE
from seckill.errors import from_rpc_error
from seckill.server import time_left_s
from seckill.v1 import gateway_pb2, inventory_pb2, inventory_pb2_grpc
from seckill.validation import REQUEST_ID_MAX, Violations, page_size

Context = grpc.aio.ServicerContext[Any, Any]


class RestServicer:
    """ListSales, WatchOrder, CancelOrder and PayOrder; the fronts serve the hot methods."""

    def __init__(
        self,
        *,
        admission: Admission,
        keys: KeySet,
        inventory: "inventory_pb2_grpc.InventoryServiceAsyncStub",
        orders: Orders,
        timeout_s: float,
    ) -> None:
        """`timeout_s`: longest time for a page of sales."""
        self._admission = admission
        self._keys = keys
        self._inventory = inventory
        self._orders = orders
        self._timeout_s = timeout_s

    def register(self, server: grpc.aio.Server) -> None:
        """Add these methods, and no others of the service, to a server."""
        unary = grpc.unary_unary_rpc_method_handler
        types = gateway_pb2
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ListSales": unary(
                self.ListSales,
                request_deserializer=types.GatewayServiceListSalesRequest.FromString,
                response_serializer=types.GatewayServiceListSalesResponse.SerializeToString,
            ),
            "WatchOrder": grpc.unary_stream_rpc_method_handler(
                self.WatchOrder,
                request_deserializer=types.GatewayServiceWatchOrderRequest.FromString,
                response_serializer=types.GatewayServiceWatchOrderResponse.SerializeToString,
            ),
            "CancelOrder": unary(
                self.CancelOrder,
                request_deserializer=types.GatewayServiceCancelOrderRequest.FromString,
                response_serializer=types.GatewayServiceCancelOrderResponse.SerializeToString,
            ),
            "PayOrder": unary(
                self.PayOrder,
                request_deserializer=types.GatewayServicePayOrderRequest.FromString,
                response_serializer=types.GatewayServicePayOrderResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def ListSales(
        self, request: gateway_pb2.GatewayServiceListSalesRequest, context: Context
    ) -> gateway_pb2.GatewayServiceListSalesResponse:
        self._admission.pass_all(Moment.read())
        question = inventory_pb2.ListSalesRequest(
            page_size=page_size(request.page_size), page_token=request.page_token
        )
        try:
            page = await self._inventory.ListSales(
                question, timeout=time_left_s(context, self._timeout_s)
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, stage="inventory") from error
        return gateway_pb2.GatewayServiceListSalesResponse(
            sales=page.sales, next_page_token=page.next_page_token
        )

    async def WatchOrder(
        self, request: gateway_pb2.GatewayServiceWatchOrderRequest, context: Context
    ) -> AsyncIterator[gateway_pb2.GatewayServiceWatchOrderResponse]:
        user_id = await self._buyer(context)
        _check_order_no(request.order_no)
        async for order in self._orders.watch(request.order_no, user_id=user_id):
            yield gateway_pb2.GatewayServiceWatchOrderResponse(order=order)

    async def CancelOrder(
        self, request: gateway_pb2.GatewayServiceCancelOrderRequest, context: Context
    ) -> gateway_pb2.GatewayServiceCancelOrderResponse:
        user_id = await self._buyer(context)
        _check_order_no(request.order_no)
        order = await self._orders.cancel(request.order_no, user_id=user_id, context=context)
        return gateway_pb2.GatewayServiceCancelOrderResponse(order=order)

    async def PayOrder(
        self, request: gateway_pb2.GatewayServicePayOrderRequest, context: Context
    ) -> gateway_pb2.GatewayServicePayOrderResponse:
        user_id = await self._buyer(context)
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.printable("payment_id", request.payment_id, REQUEST_ID_MAX)
        violations.money("amount", request.amount)
        violations.check()
        order = await self._orders.pay(request, user_id=user_id, context=context)
        return gateway_pb2.GatewayServicePayOrderResponse(order=order)

    async def _buyer(self, context: Context) -> str:
        """The buyer, admitted. The peer is the front's socket, so no address is charged."""
        moment = Moment.read()
        self._admission.pass_all(moment)
        metadata = dict(context.invocation_metadata() or ())
        value = metadata.get("authorization")
        authorization = value.encode() if isinstance(value, str) else None
        try:
            return self._admission.pass_buyer(authorization, moment).user_id
        except IdentityKeyUnknown:
            await self._keys.reload_for_unknown_key()
            return self._admission.pass_buyer(authorization, Moment.read()).user_id


def _check_order_no(order_no: str) -> None:
    violations = Violations()
    violations.order_no("order_no", order_no)
    violations.check()
