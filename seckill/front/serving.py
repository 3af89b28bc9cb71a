"""Serves with a front: its listener, and the grpc.aio server behind it."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from seckill.front.limits import FrontLimits
from seckill.front.listener import Counted
from seckill.front.passthrough import PassedThrough
from seckill.front.unary import UnaryFront, UnaryMethod
from seckill.runtime.server import Health, Register, serving
from seckill.runtime.settings import ProcessSettings


@asynccontextmanager
async def serving_behind(
    register: Register,
    *,
    settings: ProcessSettings,
    limits: FrontLimits,
    health_state: Health,
    services: Sequence[str],
    passed_on: bool,
) -> AsyncIterator[PassedThrough]:
    """Serve with grpc.aio on a Unix socket, and yield what passes calls on to it.

    The arguments are those of `serving`.
    """
    with tempfile.TemporaryDirectory(prefix="seckill-front-") as folder:
        path = str(Path(folder) / "behind.sock")
        async with serving(
            f"unix:{path}",
            register,
            settings=settings,
            health_state=health_state,
            services=services,
            passed_on=passed_on,
        ):
            yield PassedThrough(
                path, streams_max=limits.passed_streams_max, bytes_max=limits.passed_bytes_max
            )


@asynccontextmanager
async def unary_front(
    listen: str,
    methods: Sequence[UnaryMethod],
    register: Register,
    *,
    settings: ProcessSettings,
    limits: FrontLimits,
    metrics: Counted,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """Serve on `listen` until the context ends, then let calls in flight finish.

    Args:
        listen: "host:port"; port 0 takes a free one.
        methods: served here.
        register: adds the servicers of all other methods to the server behind.
        limits: what callers may take.
        metrics: counts connections.

    Yields:
        The port bound.
    """
    async with serving_behind(
        register,
        settings=settings,
        limits=limits,
        health_state=health_state,
        services=services,
        passed_on=True,
    ) as behind:
        front = UnaryFront(methods, metrics=metrics, limits=limits, behind=behind)
        try:
            yield await front.listen(listen, context=None, mesh=settings.mesh_tls())
            await front.drain(limits.drain_timeout_s)
        finally:
            await front.close()
