"""A share of the purchases is refused by a real Envoy, as the agent, or the test, tells it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from edge.bootstrap import AGENT_SOCKET
from edge.lease import Lease
from edge.refusals import PURCHASE
from edge.settings import EdgeSettings
from edge.shed_routes import shed_values
from seckill.runtime.server import Health, serving
from seckill.status import PUSHBACK_KEY, reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.edge import ENVOY, Edge
from tests.kits.edge_buyer import grpc_web
from tests.kits.edge_front import LIST, list_sales
from tests.kits.edge_upstream import running_upstream
from tests.kits.waiting import eventually

BY_JSON = "/v1/sales/phone:purchase"
CALLS = 60
ORIGIN = {"origin": "https://shop.example"}


class Shed:
    """An Envoy in front of a gateway that always sells."""

    def __init__(self, edge: Edge, lease: Lease) -> None:
        self.edge = edge
        self.lease = lease

    async def sold(self) -> bool:
        """Whether a purchase gets through."""
        return (await self.edge.call("POST", BY_JSON, {})).status == 200

    async def until_shed(self, share: float) -> None:
        """Let this share of purchases through, and wait until Envoy has been told."""
        self.lease.shed(shed_values(share))
        await eventually(self.sold, lambda sold: not sold)


@pytest.fixture
async def shed(tmp_path: Path) -> AsyncIterator[Shed]:
    """Running, with nothing shed."""
    async with running_upstream() as upstream:
        mesh_settings = {
            "SECKILL_GATEWAY_TARGET": upstream.target,
            "SECKILL_PROFILE": "development",
        }
        changes = {
            "SECKILL_EDGE_SHED": "on",
            "SECKILL_EDGE_RATE_IP": "1000",
            "SECKILL_EDGE_CORS_ORIGINS": ORIGIN["origin"],
        }
        edge = Edge(mesh_settings, directory=tmp_path, settings=changes)
        settings = EdgeSettings(edge_directory=tmp_path / "edge", edge_lease_s=0.5)
        lease = Lease(ttl_s=settings.edge_lease_s)
        async with serving(
            f"unix:{settings.edge_directory / AGENT_SOCKET}",
            lease.register,
            settings=settings,
            health_state=Health([]),
            services=[],
        ):
            await asyncio.to_thread(edge.start, ENVOY)
            try:
                yield Shed(edge, lease)
            finally:
                lease.close()
                await asyncio.to_thread(edge.stop)


async def test_what_is_shed_is_overloaded_in_all_forms_with_several_delays(shed: Shed) -> None:
    """JSON, gRPC and gRPC-Web; a page of another origin can read it."""
    await shed.until_shed(0)
    delays = set()
    for _ in range(20):
        answer = await shed.edge.call("POST", BY_JSON, {}, headers=ORIGIN)
        assert (answer.status, answer.reason) == (429, "OVERLOADED")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
        (told,) = [one for one in answer.json["details"] if one["@type"].endswith("RetryInfo")]
        delays.add(told["retryDelay"])
    assert len(delays) > 1
    pushbacks = set()
    async with shed.edge.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Purchase(gateway_pb2.PurchaseRequest(), timeout=CALL_S)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason_of(refused.value) == "OVERLOADED"
            pushbacks.add(dict(refused.value.trailing_metadata() or ())[PUSHBACK_KEY])
    assert len(pushbacks) > 1
    _, trailers = await grpc_web(shed.edge, "Purchase", gateway_pb2.PurchaseRequest())
    assert trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    # JSON by the method's name.
    assert (await shed.edge.call("POST", PURCHASE, {})).reason == "OVERLOADED"


async def test_a_connection_stays_open_when_its_purchase_is_shed(shed: Shed) -> None:
    """Its body is read, so that the next request can follow."""
    await shed.until_shed(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", shed.edge.ports.public)
    request = f"POST {BY_JSON} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    async with asyncio.timeout(CALL_S):
        for _ in range(3):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 429")
            assert b"connection: close" not in head
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
    writer.close()


async def test_nothing_but_purchases_is_shed(shed: Shed) -> None:
    """Looks at sales, polls and payments pass, though no purchase does."""
    await shed.until_shed(0)
    assert (await shed.edge.call("GET", "/v1/sales")).status == 200
    await list_sales(shed.edge, "")
    assert (await shed.edge.call("GET", f"/v1/orders/{'0' * 26}")).status == 200
    async with shed.edge.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        await stub.PayOrder(gateway_pb2.GatewayServicePayOrderRequest(), timeout=CALL_S)
    await grpc_web(shed.edge, "ListSales", LIST())


async def test_about_the_share_is_let_through(shed: Shed) -> None:
    """Half of them, and not all or none."""
    await shed.until_shed(0.5)
    sold = [await shed.sold() for _ in range(CALLS)]
    assert 0.2 * CALLS < sum(sold) < 0.8 * CALLS


async def test_without_an_agent_nothing_is_shed(shed: Shed) -> None:
    """What it told expires by itself."""
    await shed.until_shed(0)
    shed.lease.close()
    await eventually(shed.sold)
