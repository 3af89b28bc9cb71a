"""A gateway that records the calls that reach it, for tests of what Envoy passes on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc

from devstack.ports import LOOPBACK
from gateway.front.load import TimedAdmission
from gateway.front.serving import http2_front
from gateway.settings import GatewaySettings
from seckill.runtime.server import Health
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, order_pb2, sale_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class Upstream(gateway_pb2_grpc.GatewayServiceServicer):
    """GetSale answers once `released` is set; what is there of the rest answers at once."""

    def __init__(self) -> None:
        self.target = ""
        self.calls: list[Mapping[str, str]] = []
        self.hanging = asyncio.Event()
        self.released = asyncio.Event()

    async def ListSales(
        self, request: gateway_pb2.GatewayServiceListSalesRequest, context: Context
    ) -> gateway_pb2.GatewayServiceListSalesResponse:
        self._note(context)
        return gateway_pb2.GatewayServiceListSalesResponse(next_page_token=request.page_token)

    async def GetSale(
        self, request: gateway_pb2.GatewayServiceGetSaleRequest, context: Context
    ) -> gateway_pb2.GatewayServiceGetSaleResponse:
        self._note(context)
        self.hanging.set()
        await self.released.wait()
        sale = sale_pb2.Sale(terms=sale_pb2.SaleTerms(sku=request.sku))
        return gateway_pb2.GatewayServiceGetSaleResponse(sale=sale)

    async def GetOrder(
        self, request: gateway_pb2.GatewayServiceGetOrderRequest, context: Context
    ) -> gateway_pb2.GatewayServiceGetOrderResponse:
        self._note(context)
        order = order_pb2.Order(order_no=request.order_no)
        return gateway_pb2.GatewayServiceGetOrderResponse(order=order)

    async def PayOrder(
        self, _request: gateway_pb2.GatewayServicePayOrderRequest, context: Context
    ) -> gateway_pb2.GatewayServicePayOrderResponse:
        self._note(context)
        return gateway_pb2.GatewayServicePayOrderResponse()

    async def Purchase(
        self, _request: gateway_pb2.PurchaseRequest, context: Context
    ) -> gateway_pb2.PurchaseResponse:
        self._note(context)
        return gateway_pb2.PurchaseResponse(outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED)

    def _note(self, context: Context) -> None:
        metadata = context.invocation_metadata() or ()
        self.calls.append({str(key): str(value) for key, value in metadata})


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    """Run an upstream that answers, and says that it is ready."""
    upstream = Upstream()  # type: ignore[abstract]  # on purpose: the rest is not implemented
    health = Health([])

    def register(server: grpc.aio.Server) -> None:
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(upstream, server)

    settings = GatewaySettings.model_construct(profile="development", drain_timeout_s=0.1)
    async with http2_front(
        f"{LOOPBACK}:0",
        [],
        register,
        settings=settings,
        admission=TimedAdmission(calls_max=10, wait_share=0.3, wait_max_s=2.0, ahead_s=0.1),
        limits=settings.front_limits(),
        speaks_json=True,
        certificate=None,
        health_state=health,
        services=[],
    ) as port:
        await health.set_ready(True)
        upstream.target = f"dns:///{LOOPBACK}:{port}"
        yield upstream
