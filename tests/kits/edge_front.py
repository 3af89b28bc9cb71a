"""An edge in front of an upstream, and how tests call it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits import http
from tests.kits.actions import CALL_S
from tests.kits.edge import Edge
from tests.kits.edge_upstream import Upstream

LIST = gateway_pb2.GatewayServiceListSalesRequest


@asynccontextmanager
async def running_edge(
    upstream: Upstream, directory: Path, settings: Mapping[str, str]
) -> AsyncIterator[Edge]:
    """Envoy in front of it, without an inventory to watch."""
    async with edge_before(upstream.target, directory, settings) as running:
        yield running


@asynccontextmanager
async def edge_before(
    target: str, directory: Path, settings: Mapping[str, str]
) -> AsyncIterator[Edge]:
    """Envoy in front of a gateway that this loop serves, without an inventory to watch."""
    mesh_settings = {"SECKILL_GATEWAY_TARGET": target, "SECKILL_PROFILE": "development"}
    running = Edge(mesh_settings, directory=directory, settings=settings)
    # In a thread: Envoy asks for the upstream's health, which this loop answers.
    await asyncio.to_thread(running.__enter__)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.stop)


async def list_sales(edge: Edge, page_token: str) -> gateway_pb2.GatewayServiceListSalesResponse:
    """List sales in gRPC."""
    async with edge.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        return await stub.ListSales(LIST(page_token=page_token), timeout=CALL_S)


async def until_closed(edge: Edge, sent: bytes) -> bytes:
    """Return what comes back on a connection that sends this and no more."""
    return await http.until_closed(edge.ports.public, sent)
