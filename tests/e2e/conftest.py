"""The whole mesh, once for each front."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from deploy.local import Stores, create_topics
from order_svc.migrate import migrate
from seckill.v1 import gateway_pb2_grpc, inventory_pb2_grpc, order_pb2_grpc, rollback_pb2_grpc
from tests.e2e.actions import Gateway, Inventory, Orders, Rollback
from tests.mesh import Mesh

TOPICS = {"seckill.orders.v1": 12, "seckill.orders.v1.dlq": 1, "seckill.order-events.v1": 4}


@pytest.fixture(scope="session")
async def prepared_stores(stores: Stores) -> Stores:
    """Stores with the mesh's topics and schema."""
    await create_topics(stores.kafka_bootstrap, TOPICS)
    await migrate(stores.postgres_dsn)
    return stores


@pytest.fixture(scope="session", params=["native", "grpcio"])
def mesh(
    request: pytest.FixtureRequest,
    prepared_stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mesh]:
    """The four services on real stores, behind either front."""
    directory: Path = tmp_path_factory.mktemp(f"mesh-{request.param}")
    settings = {"SECKILL_GATEWAY_FRONT": request.param}
    with Mesh(prepared_stores, directory=directory, settings=settings) as running:
        yield running


@pytest.fixture
async def gateway_channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to the gateway."""
    async with mesh.channel("gateway") as channel:
        yield channel


@pytest.fixture
def gateway(gateway_channel: grpc.aio.Channel) -> Gateway:
    """Calls to the gateway."""
    return gateway_pb2_grpc.GatewayServiceStub(gateway_channel)


@pytest.fixture
async def inventory(mesh: Mesh) -> AsyncIterator[Inventory]:
    """Calls to the inventory service."""
    async with mesh.channel("inventory") as channel:
        yield inventory_pb2_grpc.InventoryServiceStub(channel)


@pytest.fixture
async def orders(mesh: Mesh) -> AsyncIterator[Orders]:
    """Calls to the order service."""
    async with mesh.channel("order") as channel:
        yield order_pb2_grpc.OrderServiceStub(channel)


@pytest.fixture
async def rollback(mesh: Mesh) -> AsyncIterator[Rollback]:
    """Calls to the rollback service."""
    async with mesh.channel("rollback") as channel:
        yield rollback_pb2_grpc.RollbackServiceStub(channel)
