"""A gateway behind each of its two fronts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.contract.front_edge import Edge, open_edge


@pytest.fixture(params=["native", "grpcio"])
def front(request: pytest.FixtureRequest) -> str:
    """Which front serves."""
    return str(request.param)


@pytest.fixture
async def edge(front: str, tmp_path: Path) -> AsyncIterator[Edge]:
    """A gateway with default limits."""
    async with AsyncExitStack() as stack:
        yield await open_edge(stack, tmp_path, front)
