"""Serves what is behind a front."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from seckill.front.limits import FrontLimits
from seckill.front.passthrough import PassedThrough
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
