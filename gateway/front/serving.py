"""Serves with the http2 front: its listener, and the grpc.aio server behind it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.front.call import BatchedMethod
from gateway.front.http2 import Http2Front
from gateway.front.load import TimedAdmission
from gateway.front.tls import Certificate
from seckill.front.limits import FrontLimits
from seckill.front.serving import serving_behind
from seckill.runtime.server import Health, Register
from seckill.runtime.settings import ProcessSettings


@asynccontextmanager
async def http2_front(
    listen: str,
    methods: Sequence[BatchedMethod],
    register: Register,
    *,
    settings: ProcessSettings,
    admission: TimedAdmission,
    limits: FrontLimits,
    speaks_json: bool,
    certificate: Certificate | None,
    health_state: Health,
    services: Sequence[str],
) -> AsyncIterator[int]:
    """Serve on `listen` until the context ends, then let calls in flight finish.

    Args:
        listen: "host:port"; port 0 takes a free one.
        methods: served in batches.
        register: adds the servicers of all other methods to the server behind.
        admission: refuses calls of `methods` for which there is no time.
        limits: what callers may take.
        speaks_json: serve the methods as JSON over HTTP/1.1 and 2, too.
        certificate: of a gateway that buyers call without the edge; None serves the mesh, over the
            mesh's TLS if it has one.

    Yields:
        The port bound.
    """
    async with serving_behind(
        register,
        settings=settings,
        limits=limits,
        health_state=health_state,
        services=services,
        passed_on=False,
    ) as behind:
        front = Http2Front(
            methods,
            admission=admission,
            limits=limits,
            behind=behind,
            speaks_json=speaks_json,
        )
        try:
            yield await front.serve(listen, certificate, settings.mesh_tls())
            await front.drain(limits.drain_timeout_s)
        finally:
            await front.close()
