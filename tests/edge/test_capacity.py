"""How much Envoy takes from one address and from all, and its answers without a gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from devstack.ports import LOOPBACK
from seckill.status import PUSHBACK_KEY, reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.edge import Answer, Edge
from tests.kits.edge_buyer import grpc_web
from tests.kits.edge_front import LIST, list_sales, running_edge
from tests.kits.edge_upstream import Upstream, running_upstream
from tests.kits.factories import new_id
from tests.kits.waiting import eventually


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """A gateway that remembers what reached it."""
    async with running_upstream() as running:
        yield running


async def test_one_address_gets_no_more_than_its_share(upstream: Upstream, tmp_path: Path) -> None:
    """Beyond it 429 with Retry-After, in gRPC RESOURCE_EXHAUSTED with RetryInfo; polls pass."""
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

        # What has been bought can be seen, however many others call from this address.
        assert (await edge.call("GET", f"/v1/orders/{'0' * 26}")).status == 200
        error = await eventually(refused_in_grpc)
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error) == "RATE_LIMITED"


async def test_refusals_of_haste_can_be_read_by_pages(upstream: Upstream, tmp_path: Path) -> None:
    """A page of an allowed origin sees the 429 and when to come back; gRPC-Web sees a status."""
    settings = {
        "SECKILL_EDGE_RATE_IP": "1",
        "SECKILL_EDGE_BURST_IP": "1",
        "SECKILL_EDGE_CORS_ORIGINS": "https://shop.example",
    }
    async with running_edge(upstream, tmp_path, settings) as edge:

        async def another() -> Answer:
            return await edge.call("GET", "/v1/sales", headers={"origin": "https://shop.example"})

        answer = await eventually(another, lambda seen: seen.status != 200)
        assert (answer.status, answer.reason) == (429, "RATE_LIMITED")
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert "retry-after" in answer.headers["access-control-expose-headers"]

        async def by_grpc_web() -> dict[str, str]:
            return dict((await grpc_web(edge, "ListSales", LIST()))[1])

        told = await eventually(by_grpc_web, lambda seen: seen["grpc-status"] != "0")
        assert told["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        assert told["grpc-retry-pushback-ms"] == "1000"


@pytest.fixture
async def crowded(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge whose only call about sales hangs."""
    upstream.hanging.clear()
    settings = {"SECKILL_EDGE_PURCHASES_MAX": "1", "SECKILL_EDGE_RATE_IP": "0"}
    async with running_edge(upstream, tmp_path, settings) as edge:
        hanging = asyncio.create_task(edge.call("GET", "/v1/sales/phone"))
        await asyncio.wait_for(upstream.hanging.wait(), CALL_S)
        yield edge
        hanging.cancel()


async def test_a_crowd_is_told_that_it_is_one(crowded: Edge) -> None:
    """OVERLOADED and never RATE_LIMITED, with delays that differ, in all three forms."""
    purchase = "/v1/sales/phone:purchase"
    delays = set()
    for _ in range(20):
        answer = await crowded.call("POST", purchase, {"request_id": "r"})
        assert (answer.status, answer.reason) == (429, "OVERLOADED")
        assert answer.headers["retry-after"] == "1"
        (told,) = [one for one in answer.json["details"] if one["@type"].endswith("RetryInfo")]
        delays.add(told["retryDelay"])
    assert len(delays) > 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await list_sales(crowded, "")
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused.value) == "OVERLOADED"
    pushback = dict(refused.value.trailing_metadata() or ())[PUSHBACK_KEY]
    assert 400 <= int(pushback) <= 1_000
    _, trailers = await grpc_web(crowded, "ListSales", LIST())
    assert trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


async def test_calls_about_orders_are_not_shed_with_a_crowd(crowded: Edge) -> None:
    """While purchases are refused polls and payments are answered."""
    order_no = "0" * 26
    assert (await crowded.call("GET", "/v1/sales")).reason == "OVERLOADED"
    polled = await crowded.call("GET", f"/v1/orders/{order_no}")
    assert polled.json["order"]["orderNo"] == order_no
    async with crowded.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=order_no)
        assert (await stub.GetOrder(request, timeout=CALL_S)).order.order_no == order_no
        await stub.PayOrder(gateway_pb2.GatewayServicePayOrderRequest(), timeout=CALL_S)


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
