"""A gateway that remembers what reached it, for tests of what Envoy lets through."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc

from deploy.local.ports import LOOPBACK
from seckill.server import Health, serving
from seckill.settings import ProcessSettings
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class Upstream(gateway_pb2_grpc.GatewayServiceServicer):
    """ListSales and Purchase answer at once, GetSale never, the rest is not there."""

    def __init__(self) -> None:
        self.target = ""
        self.calls: list[Mapping[str, str]] = []
        self.hanging = asyncio.Event()

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
        await asyncio.Event().wait()
        raise AssertionError(request)

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
    """An upstream that answers, and says that it is ready."""
    upstream = Upstream()  # type: ignore[abstract]  # on purpose: the rest is not there
    health = Health([])

    def register(server: grpc.aio.Server) -> None:
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(upstream, server)

    settings = ProcessSettings(profile="development", drain_timeout_s=0.1)
    async with serving(
        f"{LOOPBACK}:0", register, settings=settings, health_state=health, services=[]
    ) as port:
        await health.set_ready(True)
        upstream.target = f"dns:///{LOOPBACK}:{port}"
        yield upstream
