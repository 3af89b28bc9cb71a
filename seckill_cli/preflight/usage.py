"""Reads the CPU that the mesh has used, and what a piece of work cost each stage."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from seckill.v1 import preflight_pb2, preflight_pb2_grpc
from seckill_cli.operators import Metadata

USAGE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Usage:
    """What all known processes had used at a moment, by instance; monotonic seconds."""

    at_s: float
    stages: Mapping[str, preflight_pb2.StageUsage]


class Meter:
    """Reads the usage of the services' replicas, each once a process."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], metadata: Metadata) -> None:
        self._stubs = [preflight_pb2_grpc.PreflightServiceStub(one) for one in channels]
        self._metadata = metadata
        self._idle: Mapping[str, float] = {}

    async def read(self) -> Usage:
        """Return what has been used so far; raises AioRpcError if a replica does not answer."""
        request = preflight_pb2.GetUsageRequest()
        answers = await asyncio.gather(
            *(
                stub.GetUsage(request, metadata=self._metadata, timeout=USAGE_TIMEOUT_S)
                for stub in self._stubs
            )
        )
        # Several replicas tell of the same Redis.
        stages = {stage.instance: stage for answer in answers for stage in answer.stages}
        return Usage(time.monotonic(), stages)

    async def learn_idle(self, seconds: float) -> None:
        """Measure what is used without any work, for so long; later figures leave it out."""
        before = await self.read()
        await asyncio.sleep(seconds)
        after = await self.read()
        self._idle = {
            name: used / (after.at_s - before.at_s) for name, used in _used(before, after).items()
        }

    def used_s(self, before: Usage, after: Usage) -> dict[str, float]:
        """Return the seconds of CPU of each stage in between, without what it uses idle."""
        seconds = after.at_s - before.at_s
        return {
            name: max(0.0, used - self._idle.get(name, 0.0) * seconds)
            for name, used in _used(before, after).items()
        }


def _used(before: Usage, after: Usage) -> dict[str, float]:
    """Return the seconds of CPU by stage, of processes that ran all the time."""
    used: dict[str, float] = {}
    for instance, stage in after.stages.items():
        earlier = before.stages.get(instance)
        if earlier is not None:
            cpu_s = stage.cpu_seconds - earlier.cpu_seconds
            used[stage.name] = used.get(stage.name, 0.0) + cpu_s
    return used


def replaced(before: Usage, after: Usage) -> Iterable[str]:
    """Return the names of stages of which a process has ended, or started, in between."""
    both = before.stages.keys() ^ after.stages.keys()
    return sorted({(before.stages.get(one) or after.stages[one]).name for one in both})
