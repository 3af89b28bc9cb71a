"""One mesh with one edge in front, for all tests that change neither."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from seckill.v1 import gateway_pb2_grpc
from tests.kits.actions import Gateway
from tests.kits.edge import Edge
from tests.kits.mesh import Mesh, prepared_stores

__all__ = ["prepared_stores"]


@pytest.fixture(scope="package")
def mesh(prepared_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The four services on real stores."""
    directory: Path = tmp_path_factory.mktemp("mesh-edge")
    with Mesh(prepared_stores, directory=directory) as running:
        yield running


@pytest.fixture(scope="package")
def edge(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Envoy and its agent in front of the mesh."""
    with Edge(mesh.settings, directory=tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture
async def public(edge: Edge) -> AsyncIterator[grpc.aio.Channel]:
    """A plaintext connection to the edge."""
    async with edge.channel() as channel:
        yield channel


@pytest.fixture
def gateway(public: grpc.aio.Channel) -> Gateway:
    """Calls to the gateway through the edge."""
    return gateway_pb2_grpc.GatewayServiceStub(public)
