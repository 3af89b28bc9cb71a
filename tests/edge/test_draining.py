"""Envoy is left by its clients before it ends."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.edge import AGENT, Edge
from tests.kits.edge_front import list_sales, running_edge
from tests.kits.edge_upstream import Upstream, running_upstream
from tests.kits.waiting import eventually


@asynccontextmanager
async def edge_and_upstream(directory: Path) -> AsyncIterator[tuple[Edge, Upstream]]:
    """Envoy with its agent, before an upstream whose GetSale waits."""
    async with (
        running_upstream() as upstream,
        running_edge(upstream, directory, {"SECKILL_DRAIN_TIMEOUT_S": "30"}) as edge,
    ):
        yield edge, upstream


async def is_ready(edge: Edge) -> bool:
    """Whether Envoy says that it is ready."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{edge.ports.stats}/ready") as answer,
    ):
        return answer.status == 200


def connections_drained(edge: Edge) -> int:
    """How many connections Envoy has told to end."""
    name = r'^envoy_http_downstream_cx_drain_close\{.*prefix="edge"\} (\d+)$'
    found = re.search(name, edge.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0


async def test_calls_in_flight_end_before_envoy_does(tmp_path: Path) -> None:
    """Told to stop it is not ready, its clients leave with their next answer, no call is cut."""
    async with edge_and_upstream(tmp_path) as (edge, upstream), edge.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku="phone")
        held = asyncio.ensure_future(stub.GetSale(request, timeout=CALL_S))
        await upstream.hanging.wait()
        stopping = asyncio.create_task(asyncio.to_thread(edge.stop))
        await eventually(lambda: is_ready(edge), lambda ready: not ready)
        await list_sales(edge, "")
        assert await asyncio.to_thread(connections_drained, edge) >= 1
        assert not stopping.done()
        upstream.released.set()
        assert (await held).sale.terms.sku == "phone"
        await stopping
        assert "envoy drained" in edge.log(AGENT)


async def test_an_agent_that_starts_again_has_envoy_stay(tmp_path: Path) -> None:
    """Only the agent was replaced."""
    async with edge_and_upstream(tmp_path) as (edge, _):
        await asyncio.to_thread(edge.kill_softly, AGENT)
        assert not await is_ready(edge)
        await asyncio.to_thread(edge.start, AGENT)
        assert await is_ready(edge)
        drained = await asyncio.to_thread(connections_drained, edge)
        await list_sales(edge, "")
        assert await asyncio.to_thread(connections_drained, edge) == drained
