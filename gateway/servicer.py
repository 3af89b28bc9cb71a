"""The methods that are not batched, on grpc.aio."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from gateway.admission import Admission, Moment
from gateway.orders import Orders
from gateway.sale_pages import SalePages
from gateway.service_name import SERVICE
from gateway.watches import Watches
from seckill.errors import PaymentSandboxOff
from seckill.front.peers import PEER_METADATA, USER_AGENT_METADATA
from seckill.runtime.identity import IdentityKeyUnknown
from seckill.runtime.jwks import KeySet
from seckill.v1 import gateway_pb2
from seckill.validation import REQUEST_ID_MAX, Violations

Context = grpc.aio.ServicerContext[Any, Any]


class ContextCaller:
    """Who calls the grpc.aio server: by its socket, or as the front before it says."""

    def __init__(self, context: Context) -> None:
        self._metadata = tuple(context.invocation_metadata() or ())
        peer = context.peer()
        # Only the front comes by a Unix socket; other callers could write its metadata, too.
        self._from_front = peer.startswith("unix:")
        self.peer = (self.metadata(PEER_METADATA) or "") if self._from_front else peer

    def metadata(self, key: str) -> str | None:
        if key == "user-agent" and self._from_front:
            # JSON comes by a client of gRPC, which writes its own.
            named = self.metadata(USER_AGENT_METADATA)
            if named is not None:
                return named
        values = [str(value) for name, value in self._metadata if name == key]
        return ",".join(values) if values else None


class UnbatchedServicer:
    """ListSales, WatchOrder, CancelOrder and payments; the fronts serve the batched methods."""

    def __init__(
        self,
        *,
        admission: Admission,
        keys: KeySet,
        pages: SalePages,
        orders: Orders,
        watches: Watches,
        sandbox_payments: bool,
    ) -> None:
        """`sandbox_payments`: whether buyers may state payments."""
        self._admission = admission
        self._keys = keys
        self._pages = pages
        self._orders = orders
        self._watches = watches
        self._sandbox_payments = sandbox_payments

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
            "ReceivePaymentCallback": unary(
                self.ReceivePaymentCallback,
                request_deserializer=types.GatewayServiceReceivePaymentCallbackRequest.FromString,
                response_serializer=(
                    types.GatewayServiceReceivePaymentCallbackResponse.SerializeToString
                ),
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def ListSales(
        self, request: gateway_pb2.GatewayServiceListSalesRequest, context: Context
    ) -> gateway_pb2.GatewayServiceListSalesResponse:
        self._admission.charge_client(ContextCaller(context), Moment.read())
        return await self._pages.read(request)

    async def WatchOrder(
        self, request: gateway_pb2.GatewayServiceWatchOrderRequest, context: Context
    ) -> AsyncIterator[gateway_pb2.GatewayServiceWatchOrderResponse]:
        user_id = await self._buyer(context)
        order_no = request.order_no
        _check_order_no(order_no)
        address = self._admission.address(ContextCaller(context))
        with self._watches.opened(user_id=user_id, order_no=order_no, address=address):
            async for order in self._orders.watch(order_no, user_id=user_id):
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
        if not self._sandbox_payments:
            raise PaymentSandboxOff
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.printable("payment_id", request.payment_id, REQUEST_ID_MAX)
        violations.money("amount", request.amount)
        violations.check()
        order = await self._orders.pay(request, user_id=user_id, context=context)
        return gateway_pb2.GatewayServicePayOrderResponse(order=order)

    async def ReceivePaymentCallback(
        self, request: gateway_pb2.GatewayServiceReceivePaymentCallbackRequest, context: Context
    ) -> gateway_pb2.GatewayServiceReceivePaymentCallbackResponse:
        # The provider proves itself to order_svc, by the signature in its headers.
        self._admission.charge_callback(ContextCaller(context), Moment.read())
        payment = await self._orders.receive_callback(request, context=context)
        return gateway_pb2.GatewayServiceReceivePaymentCallbackResponse(
            state=payment.state, reason=payment.reason
        )

    async def _buyer(self, context: Context) -> str:
        """The buyer, charged and admitted."""
        moment = Moment.read()
        caller = ContextCaller(context)
        self._admission.charge_order_call(caller, moment)
        value = caller.metadata("authorization")
        authorization = None if value is None else value.encode()
        try:
            return self._admission.authenticate(authorization, moment).user_id
        except IdentityKeyUnknown:
            await self._keys.reload_for_unknown_key()
            return self._admission.authenticate(authorization, Moment.read()).user_id


def _check_order_no(order_no: str) -> None:
    violations = Violations()
    violations.order_no("order_no", order_no)
    violations.check()
