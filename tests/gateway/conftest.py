"""A gateway behind each of its two fronts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.kits.gateway import GatewayRig, open_rig


@pytest.fixture(params=["http2", "grpcio"])
def front(request: pytest.FixtureRequest) -> str:
    """Which front serves."""
    return str(request.param)


@pytest.fixture
async def rig(front: str, tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway with default limits."""
    async with AsyncExitStack() as stack:
        yield await open_rig(stack, tmp_path, front)
