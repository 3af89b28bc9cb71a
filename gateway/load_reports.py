"""Tells the edge how much there is to do: ORCA's out-of-band load reports.

Served beside the methods, in the mesh alone: the edge passes on no other service's calls. A report
is due at each interval that the caller asks for while there is a crowd, with a last one when it has
gone, and once a second otherwise: a gateway with nothing to do works little for those who watch.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from xds.data.orca.v3 import orca_load_report_pb2
from xds.service.orca.v3 import orca_pb2

from gateway.front.load import TimedAdmission
from seckill.errors import Overloaded

SERVICE = orca_pb2.DESCRIPTOR.services_by_name["OpenRcaService"].full_name
METHOD = "StreamCoreMetrics"
# Streams open at once: one for each Envoy.
STREAMS_MAX = 256
# Reports of a stream come no faster, and not slower while nobody is refused.
INTERVAL_MIN_S, INTERVAL_MAX_S = 0.05, 1.0
# Names of the figures that ORCA has no field for.
CAPACITY, URGENT, WAIT = "capacity_rps", "urgent_rps", "wait_s"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _Counts:
    """What was counted until a moment."""

    at_s: float
    arrived: int
    urgent: int
    refused: int


class LoadReports:
    """Streams what admission has counted and measured."""

    def __init__(
        self, admission: TimedAdmission, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._admission = admission
        self._clock = clock
        self._streams = 0

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
            self._stream,
            request_deserializer=orca_pb2.OrcaLoadReportRequest.FromString,
            response_serializer=orca_load_report_pb2.OrcaLoadReport.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    async def _stream(
        self, request: orca_pb2.OrcaLoadReportRequest, _context: Context
    ) -> AsyncIterator[orca_load_report_pb2.OrcaLoadReport]:
        if self._streams >= STREAMS_MAX:
            raise Overloaded("too many watch the load")
        asked_s = request.report_interval.ToNanoseconds() / 1e9
        interval_s = min(max(asked_s, INTERVAL_MIN_S), INTERVAL_MAX_S)
        self._streams += 1
        try:
            last = self._counts()
            yield self._report(last, last)
            crowded = False
            while True:
                await asyncio.sleep(interval_s)
                now = self._counts()
                is_crowded = now.refused > last.refused or self._admission.is_busy
                if is_crowded or crowded or now.at_s - last.at_s >= INTERVAL_MAX_S:
                    yield self._report(last, now)
                    last, crowded = now, is_crowded
        finally:
            self._streams -= 1

    def _counts(self) -> _Counts:
        admission = self._admission
        return _Counts(
            self._clock(), admission.arrived, admission.urgent_arrived, admission.refused
        )

    def _report(self, last: _Counts, now: _Counts) -> orca_load_report_pb2.OrcaLoadReport:
        """What was counted from `last` to `now`, a second."""
        seconds = (now.at_s - last.at_s) or 1.0
        admission = self._admission
        report = orca_load_report_pb2.OrcaLoadReport(
            rps_fractional=(now.arrived - last.arrived) / seconds,
            eps=(now.refused - last.refused) / seconds,
        )
        report.named_metrics[URGENT] = (now.urgent - last.urgent) / seconds
        report.named_metrics[WAIT] = admission.wait_s
        if admission.seconds_a_call:
            report.named_metrics[CAPACITY] = 1 / admission.seconds_a_call
        return report
