"""Follows the load reports of all replicas of the gateway (ORCA, out of band)."""

import asyncio
import socket
import time
from collections.abc import Callable

import grpc
import structlog
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2

from edge.shedding import TICK_S, Load
from seckill.runtime.callers import GATEWAY
from seckill.runtime.mesh_channel import mesh_channel
from seckill.runtime.mesh_tls import MeshTls

SERVICE = orca_pb2.DESCRIPTOR.services_by_name["OpenRcaService"].full_name
METHOD = f"/{SERVICE}/StreamCoreMetrics"
# Replicas that are followed; the others' load is taken to be like theirs.
REPLICAS_MAX = 64
RESOLVE_S = 2.0
RECONNECT_S = 1.0
# A gateway reports at least once a second.
FRESH_S = 2.5

log = structlog.get_logger()


class GatewayLoads:
    """The newest report of each replica."""

    def __init__(
        self,
        target: str,
        *,
        mesh: MeshTls | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            target: "dns:///host:port", or without the scheme, or "ipv4:address:port,…".
            mesh: the TLS between services; None is in clear.
        """
        _, fixed, addresses = target.partition("ipv4:")
        self._fixed = addresses.split(",") if fixed else []
        host, _, port = target.removeprefix("dns:///").rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._mesh = mesh
        self._clock = clock
        self._reports: dict[str, tuple[float, Load]] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}

    def fresh(self) -> list[Load]:
        """Return the load of each replica that has reported lately."""
        since_s = self._clock() - FRESH_S
        return [load for at_s, load in self._reports.values() if at_s >= since_s]

    async def run(self) -> None:
        """Follow whatever replicas there are, until cancelled."""
        try:
            while True:
                await self._resolve()
                await asyncio.sleep(RESOLVE_S)
        finally:
            for task in self._followed.values():
                task.cancel()

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            wanted = self._fixed or await self._addresses(loop)
        except OSError as error:
            log.warning("gateway not resolved", why=str(error))
            return
        for target in self._followed.keys() - set(wanted[:REPLICAS_MAX]):
            self._followed.pop(target).cancel()
        for target in wanted[:REPLICAS_MAX]:
            if target not in self._followed:
                self._followed[target] = asyncio.create_task(self._follow(target), name=target)

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return sorted({_target(str(address[0]), self._port) for *_, address in found})

    async def _follow(self, target: str) -> None:
        try:
            async with mesh_channel(target, stage=GATEWAY, tls=self._mesh) as channel:
                while True:
                    try:
                        await self._follow_once(channel, target)
                    except grpc.aio.AioRpcError as error:
                        log.debug("gateway does not report", target=target, why=error.details())
                    self._reports.pop(target, None)
                    await asyncio.sleep(RECONNECT_S)
        finally:
            self._reports.pop(target, None)

    async def _follow_once(self, channel: grpc.aio.Channel, target: str) -> None:
        stream = channel.unary_stream(
            METHOD,
            request_serializer=orca_pb2.OrcaLoadReportRequest.SerializeToString,
            response_deserializer=orca_load_report_pb2.OrcaLoadReport.FromString,
        )
        request = orca_pb2.OrcaLoadReportRequest()
        request.report_interval.FromNanoseconds(int(TICK_S * 1e9))
        async for report in stream(request):
            self._reports[target] = (self._clock(), _load(report))


def _target(address: str, port: int) -> str:
    return f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"


def _load(report: orca_load_report_pb2.OrcaLoadReport) -> Load:
    named = report.named_metrics
    return Load(
        arrived=report.rps_fractional,
        urgent=named.get("urgent_rps", 0.0),
        refused=report.eps,
        capacity=named.get("capacity_rps", 0.0),
        wait_s=named.get("wait_s", 0.0),
    )
