"""A proxy in front of each store, and a mesh that knows only the proxies."""

from collections.abc import AsyncIterator

import pytest

from deploy.local import Stores
from tests.faults.proxy import FaultProxy


@pytest.fixture
async def redis_proxy(stores: Stores) -> AsyncIterator[FaultProxy]:
    """Between a stage and Valkey."""
    host, _, port = stores.redis_url.removeprefix("redis://").partition("/")[0].rpartition(":")
    async with FaultProxy(host, int(port)).running() as proxy:
        yield proxy
