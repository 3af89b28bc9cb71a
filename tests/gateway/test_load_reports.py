"""ORCA's load reports, at the port of a whole gateway with either front."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2

from gateway.load_reports import METHOD, SERVICE, URGENT
from seckill.v1 import gateway_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, failure, open_rig

# xds-protos has no types.
Report = Any
REPORTS_S = 20.0


def watch(rig: GatewayRig) -> AsyncIterator[Report]:
    """The reports, ten a second."""
    stream: Any = rig.channel.unary_stream(
        f"/{SERVICE}/{METHOD}",
        request_serializer=orca_pb2.OrcaLoadReportRequest.SerializeToString,
        response_deserializer=orca_load_report_pb2.OrcaLoadReport.FromString,
    )
    request = orca_pb2.OrcaLoadReportRequest()
    request.report_interval.FromMilliseconds(100)
    reports: AsyncIterator[Report] = stream(request)
    return reports


async def until(reports: AsyncIterator[Report], holds: Callable[[Report], bool]) -> Report:
    """Read on until a report is as wanted."""
    async with asyncio.timeout(REPORTS_S):
        async for report in reports:
            if holds(report):
                return report
    raise AssertionError("the stream has ended")


@asynccontextmanager
async def taken(front: str, directory: Path) -> AsyncIterator[tuple[GatewayRig, str]]:
    """A gateway that has room for one call, and a purchase that keeps it."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, directory, front, gateway_calls_max=1)
        sku = rig.services.inventory.put(sale_terms())
        rig.services.inventory.open.clear()
        buying = asyncio.create_task(rig.buy(sku, new_id("buyer")))
        await asyncio.wait_for(rig.services.inventory.batch_arrived.wait(), CALL_S)
        yield rig, sku
        rig.services.inventory.open.set()
        await buying


async def test_refusals_are_reported_and_their_end_too(front: str, tmp_path: Path) -> None:
    """What came, and how much of it was refused; then that nothing is any more."""
    async with taken(front, tmp_path) as (rig, sku):
        reports = watch(rig)
        await until(reports, lambda report: not report.eps)
        error = await failure(
            rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)
        )
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        report = await until(reports, lambda report: report.eps > 0)
        assert report.rps_fractional >= report.eps
        assert report.named_metrics[URGENT] == 0
        await until(reports, lambda report: not report.eps)


async def test_calls_about_orders_are_told_apart(front: str, tmp_path: Path) -> None:
    """The edge does not shed them: they take their part before purchases do."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front)
        reports = watch(rig)
        await until(reports, lambda report: not report.rps_fractional)
        request = gateway_pb2.GatewayServiceGetOrderRequest(order_no="0" * 26)
        await failure(
            rig.stub.GetOrder(request, metadata=rig.identity(new_id("buyer")), timeout=CALL_S)
        )
        report = await until(reports, lambda report: report.rps_fractional > 0)
        assert report.named_metrics[URGENT] == report.rps_fractional
