"""The whole loop: a gateway's reports, the agent, and what Envoy refuses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2

from devstack.ports import LOOPBACK
from gateway.load_reports import CAPACITY, METHOD, SERVICE
from seckill.runtime.server import Health, serving
from seckill.runtime.settings import ProcessSettings
from seckill.v1 import gateway_pb2_grpc
from tests.kits.edge import Edge
from tests.kits.edge_front import edge_before
from tests.kits.edge_upstream import Upstream
from tests.kits.waiting import eventually

BY_JSON = "/v1/sales/phone:purchase"
# Calls a second: far more than can be answered, and next to none.
CRUSHED: Mapping[str, float] = {"rps_fractional": 5_000, "eps": 4_000}
CALM: Mapping[str, float] = {"rps_fractional": 10, "eps": 0}
CAPACITY_RPS = 100.0


class ReportingGateway(Upstream):
    """Sells to all, and reports whatever the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.figures = CALM
        self.reports = True
        self._streams: set[asyncio.Event] = set()

    def register(self, server: grpc.aio.Server) -> None:
        """Serve both."""
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(self, server)
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=orca_pb2.OrcaLoadReportRequest.FromString,
            response_serializer=orca_load_report_pb2.OrcaLoadReport.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    async def _watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        interval_s = request.report_interval.ToNanoseconds() / 1e9
        while self.reports:
            report = orca_load_report_pb2.OrcaLoadReport(**self.figures)
            report.named_metrics[CAPACITY] = CAPACITY_RPS
            yield report
            await asyncio.sleep(interval_s)
        await asyncio.Event().wait()


@asynccontextmanager
async def crushed(
    directory: Path, settings: Mapping[str, str]
) -> AsyncIterator[tuple[ReportingGateway, Edge]]:
    """An edge in front of a gateway that reports far too many calls."""
    gateway, health = ReportingGateway(), Health([])  # type: ignore[abstract]  # as Upstream
    async with serving(
        f"{LOOPBACK}:0",
        gateway.register,
        settings=ProcessSettings.model_validate({"drain_timeout_s": 0.1}),
        health_state=health,
        services=[],
    ) as port:
        await health.set_ready(True)
        gateway.figures = CRUSHED
        changes = {
            "SECKILL_EDGE_SHED": "on",
            "SECKILL_EDGE_RATE_IP": "0",
            "SECKILL_EDGE_JSON": "transcoded",
            **settings,
        }
        async with edge_before(f"dns:///{LOOPBACK}:{port}", directory, changes) as edge:
            yield gateway, edge


async def refused_of(edge: Edge, count: int) -> int:
    """How many of so many purchases Envoy refuses."""
    answers = [await edge.call("POST", BY_JSON, {}) for _ in range(count)]
    return sum(answer.reason == "OVERLOADED" for answer in answers if answer.status == 429)


async def most_are_refused(edge: Edge) -> bool:
    return await refused_of(edge, 10) >= 8


async def none_is_refused(edge: Edge) -> bool:
    return await refused_of(edge, 20) == 0


async def test_envoy_sheds_while_the_gateway_refuses_and_no_longer(tmp_path: Path) -> None:
    """Nearly everything while fifty times too many come; nothing when they have gone."""
    async with crushed(tmp_path, {}) as (gateway, edge):
        await eventually(lambda: most_are_refused(edge))
        gateway.figures = CALM
        await eventually(lambda: none_is_refused(edge))


@pytest.mark.parametrize("fault", ["agent", "reports"])
async def test_without_reports_the_gateway_decides_alone(tmp_path: Path, fault: str) -> None:
    """An agent that is frozen, or hears of no gateway, keeps nobody out."""
    async with crushed(tmp_path, {}) as (gateway, edge):
        await eventually(lambda: most_are_refused(edge))
        if fault == "agent":
            edge.freeze_agent()
        else:
            gateway.reports = False
        await eventually(lambda: none_is_refused(edge))
        if fault == "agent":
            edge.thaw_agent()
            await eventually(lambda: most_are_refused(edge))


async def test_shedding_can_be_switched_off(tmp_path: Path) -> None:
    """Then no route has a share."""
    async with crushed(tmp_path, {"SECKILL_EDGE_SHED": "off"}) as (_, edge):
        assert await none_is_refused(edge)
        assert "lease.shed" not in (tmp_path / "edge" / "routes" / "routes.json").read_text()
