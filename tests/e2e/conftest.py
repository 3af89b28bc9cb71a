"""Fixtures: the whole mesh, and calls to its services."""

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from seckill.v1 import gateway_pb2_grpc, inventory_pb2_grpc, order_pb2_grpc, rollback_pb2_grpc
from tests.kits.actions import Gateway, Inventory, Orders, Rollback
from tests.kits.mesh import ALL_SECURE, Mesh, prepared_stores

__all__ = ["prepared_stores"]


FRONTS = ("http2", "grpcio")
# The default front, in a mesh whose services demand certificates.
SECURE = "secure"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked `both_fronts` over each front of the gateway, others over the default;
    one marked `secure` in a secure mesh, too, and with SECKILL_TEST_SECURE=1 all of them.
    """
    if "mesh" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        kinds: tuple[str, ...] = FRONTS if marked("both_fronts") else FRONTS[:1]
        kinds += (SECURE,) if marked(SECURE) else ()
        metafunc.parametrize(
            "mesh", (SECURE,) if ALL_SECURE else kinds, indirect=True, scope="package"
        )


@pytest.fixture(scope="package")
def mesh(
    request: pytest.FixtureRequest,
    prepared_stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mesh]:
    """Start the four services on real stores, with the front that the tests ask for; inventory has
    the same, and is asked over the channel that goes with it.
    """
    directory: Path = tmp_path_factory.mktemp(f"mesh-{request.param}")
    secure = request.param == SECURE
    kind = FRONTS[0] if secure else request.param
    settings = {
        "SECKILL_GATEWAY_FRONT": kind,
        "SECKILL_GATEWAY_INVENTORY_CHANNEL": kind,
        "SECKILL_INVENTORY_FRONT": kind,
    }
    with Mesh(prepared_stores, directory=directory, settings=settings, secure=secure) as running:
        yield running


@pytest.fixture
async def gateway_channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to the gateway."""
    async with mesh.channel("gateway") as channel:
        yield channel


@pytest.fixture
async def gateway(gateway_channel: grpc.aio.Channel) -> Gateway:
    """Return a stub of the gateway; a secure channel is opened as it is made, and needs a loop."""
    return gateway_pb2_grpc.GatewayServiceStub(gateway_channel)


@pytest.fixture
async def inventory(mesh: Mesh) -> AsyncIterator[Inventory]:
    """Return a stub of the inventory service."""
    async with mesh.channel("inventory") as channel:
        yield inventory_pb2_grpc.InventoryServiceStub(channel)


@pytest.fixture
async def orders(mesh: Mesh) -> AsyncIterator[Orders]:
    """Return a stub of the order service."""
    async with mesh.channel("order") as channel:
        yield order_pb2_grpc.OrderServiceStub(channel)


@pytest.fixture
async def rollback(mesh: Mesh) -> AsyncIterator[Rollback]:
    """Return a stub of the rollback service."""
    async with mesh.channel("rollback") as channel:
        yield rollback_pb2_grpc.RollbackServiceStub(channel)


@pytest.fixture(scope="package")
def gate_mesh(prepared_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Start the four services with a gate that is narrow enough to be seen."""
    settings = {
        "SECKILL_GATEWAY_ADMISSION_MULTIPLE": "2",
        "SECKILL_GATEWAY_BATCH_MAX": "32",
        # Callers say where they come from, and with which card they pay.
        "SECKILL_GATEWAY_IP_EXEMPT": "",
        "SECKILL_GATEWAY_RATE_IP": "0",
        "SECKILL_GATEWAY_RATE_USER": "0",
        "SECKILL_GATEWAY_RATE_ISSUE": "0",
        "SECKILL_GATEWAY_RATE_IP_ISSUE": "0",
        "SECKILL_GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
        "SECKILL_GATEWAY_RISK_FINGERPRINT_CLAIM": "card",
        "SECKILL_GATEWAY_SIGHTINGS_KEY": base64.b64encode(
            b"a test's key of 32 bytes or more"
        ).decode(),
        # What was asked of order_svc is asked again at once.
        "SECKILL_GATEWAY_HISTORY_KEPT_S": "0.01",
        # A test stops inventory for a while; its callers wait.
        "SECKILL_GATEWAY_INVENTORY_TIMEOUT_S": "60",
        "SECKILL_GATEWAY_TOKEN_TTL_S": "60",
    }
    with Mesh(
        prepared_stores,
        directory=tmp_path_factory.mktemp("gate"),
        settings=settings,
        secure=ALL_SECURE,
    ) as mesh:
        yield mesh
