"""Redis servers of the kinds that the scripts must run on."""

from collections.abc import Iterator

import pytest

from devstack import Redis62Server, ValkeyServer


@pytest.fixture(scope="module", params=[ValkeyServer, Redis62Server], ids=["valkey9", "redis62"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyServer]:
    """A server of each kind, for one module alone."""
    with request.param(tmp_path_factory.mktemp("redis")) as running:
        yield running
