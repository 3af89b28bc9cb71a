"""Turns traces on for a process, if its settings say so."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from seckill.runtime import tracing
from seckill.runtime.spans import Tracer
from seckill.runtime.trace_settings import TraceSettings


@asynccontextmanager
async def traced(settings: TraceSettings, *, service: str) -> AsyncIterator[None]:
    """Trace what the process does meanwhile; without an endpoint do nothing, and import nothing."""
    if not settings.traces_endpoint:
        yield
        return
    from seckill.runtime.otlp import open_recorder  # noqa: PLC0415 - only if it is used

    # Only the service that the public calls has a bound on what its callers ask to be traced.
    callers_per_s_max = getattr(settings, "gateway_traced_callers_per_s_max", None)
    async with open_recorder(settings, service=service) as recorder:
        tracer = Tracer(
            recorder,
            share=settings.traces_share,
            errors_per_s_max=settings.traces_errors_per_s_max,
            is_first=callers_per_s_max is not None,
            callers_per_s_max=math.inf if callers_per_s_max is None else callers_per_s_max,
        )
        with tracing.installed(tracer):
            yield
