"""How much Envoy takes from one address and from all, and what it says when nobody is behind it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from deploy.local.ports import LOOPBACK
from seckill.errors import reason_of
from tests.edge.front import list_sales, running_edge
from tests.edge.kit import Answer
from tests.edge.upstream import Upstream, running_upstream
from tests.factories import new_id
from tests.waiting import eventually


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """A gateway that remembers what reached it."""
    async with running_upstream() as running:
        yield running


async def test_one_address_gets_no_more_than_its_share(upstream: Upstream, tmp_path: Path) -> None:
    """Beyond it 429 with Retry-After, in gRPC RESOURCE_EXHAUSTED with RetryInfo; however forged."""
    settings = {"SECKILL_EDGE_RATE_IP": "1", "SECKILL_EDGE_BURST_IP": "5"}
    async with running_edge(upstream, tmp_path, settings) as edge:

        async def another() -> Answer:
            forged = {"x-forwarded-for": new_id("address")}
            return await edge.call("GET", "/v1/sales", headers=forged)

        answer = await eventually(another, lambda seen: seen.status != 200)
        assert (answer.status, answer.reason) == (429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) >= 1

        async def refused_in_grpc() -> grpc.aio.AioRpcError | None:
            try:
                await list_sales(edge, "")
            except grpc.aio.AioRpcError as error:
                return error
            return None

        error = await eventually(refused_in_grpc)
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error) == "RATE_LIMITED"


async def test_connections_are_bounded_and_probes_get_through(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Those too many are closed at once; readiness is still told; room comes back."""
    settings = {"SECKILL_EDGE_CONNECTIONS_MAX": "4", "SECKILL_EDGE_HEADERS_TIMEOUT_S": "30"}
    async with running_edge(upstream, tmp_path, settings) as edge:
        opened = [await asyncio.open_connection(LOOPBACK, edge.ports.public) for _ in range(12)]
        closed = [asyncio.create_task(reader.read()) for reader, _ in opened]

        async def turned_away() -> int:
            return sum(task.done() for task in closed)

        await eventually(turned_away, lambda count: count == 8)
        assert "envoy_server_live{} 1" in await asyncio.to_thread(edge.metrics)
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*closed, return_exceptions=True)

        async def served() -> bool:
            try:
                return (await edge.call("GET", "/v1/sales")).status == 200
            except OSError:
                return False

        await eventually(served)


async def test_a_gateway_that_is_away_is_unavailable_in_both_forms(tmp_path: Path) -> None:
    """503 with DEPENDENCY_UNAVAILABLE and when to come back; the same as a status."""
    async with running_upstream() as upstream:
        context = running_edge(upstream, tmp_path, {})
        edge = await context.__aenter__()
    try:
        answer = await eventually(
            lambda: edge.call("GET", "/v1/sales"), lambda seen: seen.status != 200
        )
        assert (answer.status, answer.reason) == (503, "DEPENDENCY_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        with pytest.raises(grpc.aio.AioRpcError) as away:
            await list_sales(edge, "")
        assert away.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(away.value) == "DEPENDENCY_UNAVAILABLE"
    finally:
        await context.__aexit__(None, None, None)
