"""PreflightService, alike in every service: runs the checks it is given, reads clocks of CPU."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import grpc

from seckill.findings import Check, Crowd
from seckill.runtime.preflight.common import run_all
from seckill.runtime.preflight.usage import INSTANCE, ReadUsage, own_usage
from seckill.v1 import preflight_pb2 as pb
from seckill.v1 import preflight_pb2_grpc
from seckill.validation import UNITS_MAX, Violations
from seckill.version import VERSION

PREFLIGHT_SERVICE = "seckill.v1.PreflightService"
BUYERS_MAX = 100_000_000
DURATION_MIN_S, DURATION_MAX_S = 0.001, 86_400.0
# Of a sale whose end is not given.
AHEAD_S = 86_400.0
Context = grpc.aio.ServicerContext[Any, Any]


class Gate(Protocol):
    """Decides who may call."""

    async def admit(self, context: Context) -> str:
        """Return the caller's name, or raise what they are told."""


class PreflightServicer(preflight_pb2_grpc.PreflightServiceServicer):
    """The contract of protos/seckill/v1/preflight.proto."""

    def __init__(
        self,
        service: str,
        checks: Sequence[Check],
        *,
        gate: Gate | None = None,
        read_usage: ReadUsage | None = None,
    ) -> None:
        """
        Args:
            service: its name.
            checks: of this service, in the order in which they are shown.
            gate: decides who may call; None admits all, as the service's other methods do.
            read_usage: of the stores that the service can ask.
        """
        self._service = service
        self._checks = checks
        self._gate = gate
        self._read_usage = read_usage

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        preflight_pb2_grpc.add_PreflightServiceServicer_to_server(self, server)

    async def RunChecks(
        self, request: pb.RunChecksRequest, context: Context
    ) -> pb.RunChecksResponse:
        if self._gate is not None:
            await self._gate.admit(context)
        crowd = _crowd_of(request)
        findings = await run_all(self._checks, crowd)
        response = pb.RunChecksResponse(service=self._service, version=VERSION, instance=INSTANCE)
        for one in findings:
            response.checks.add(
                name=one.name, verdict=one.verdict, found=one.found, advice=one.advice
            )
        # Last: the caller compares it with the moment at which the answer comes.
        response.time.FromNanoseconds(time.time_ns())
        return response

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        del request
        if self._gate is not None:
            await self._gate.admit(context)
        others = () if self._read_usage is None else await self._read_usage()
        return pb.GetUsageResponse(stages=[own_usage(self._service), *others])


def _crowd_of(request: pb.RunChecksRequest) -> Crowd:
    """Return who is expected; raises InvalidField."""
    violations = Violations()
    violations.between("buyers", request.buyers, 1, BUYERS_MAX)
    violations.between("units", request.units, 1, UNITS_MAX)
    violations.duration("duration", request.duration, DURATION_MIN_S, DURATION_MAX_S)
    ends = request.HasField("end_time") and violations.timestamp("end_time", request.end_time)
    violations.check()
    end_s = request.end_time.ToNanoseconds() / 1e9 if ends else time.time() + AHEAD_S
    return Crowd(
        buyers=request.buyers,
        units=request.units,
        seconds=request.duration.ToNanoseconds() / 1e9,
        end_s=end_s,
    )
