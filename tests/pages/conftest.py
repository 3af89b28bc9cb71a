"""One mesh with its edge and one browser, for all tests of the pages."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser

from devstack import Stores
from tests.kits.console import Console
from tests.kits.edge import Edge
from tests.kits.mesh import Mesh, prepared_stores
from tests.kits.operator_edge import OperatorEdge, operator_edge
from tests.kits.pages import Shop, running_browser
from tests.kits.webhooks import Receiver, new_secret, receiving
from tools.debian import find_chromium

__all__ = ["prepared_stores"]

SETTINGS = {
    # Who has no account of some age is a risk, for sales that ask about it.
    "SECKILL_GATEWAY_RISK_ACCOUNT_CLAIM": "opened",
    "SECKILL_GATEWAY_CHALLENGE_MAX_NUMBER": "20000",
    # A buyer has three purchase tokens at once, and another one every three seconds.
    "SECKILL_GATEWAY_BURST_ISSUE": "3",
    "SECKILL_GATEWAY_RATE_ISSUE": "0.33",
    # A delivery that is refused is dead.
    "SECKILL_ORDER_WEBHOOK_ATTEMPTS_MAX": "1",
}
# Few calls fill the edge.
EDGE_SETTINGS = {"SECKILL_EDGE_PURCHASES_MAX": "8"}


@pytest.fixture(scope="package")
async def receiver() -> AsyncIterator[Receiver]:
    """Who is told by webhook that orders were cancelled."""
    async with receiving() as running:
        yield running


@pytest.fixture(scope="package")
def mesh(
    prepared_stores: Stores, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mesh]:
    """The four services on real stores."""
    endpoint = {
        "name": "shop",
        "url": receiver.url,
        "secret": new_secret(),
        "events": ["cancelled"],
    }
    settings = {**SETTINGS, "SECKILL_ORDER_WEBHOOK_ENDPOINTS": json.dumps([endpoint])}
    directory = tmp_path_factory.mktemp("mesh-pages")
    with Mesh(prepared_stores, directory=directory, settings=settings) as running:
        yield running


@pytest.fixture(scope="package")
def edge(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Envoy and its agent, which serve the pages."""
    directory = tmp_path_factory.mktemp("edge-pages")
    with Edge(mesh.settings, directory=directory, settings=EDGE_SETTINGS) as running:
        yield running


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium; `make packages` installs one."""
    if find_chromium() is None:
        pytest.skip("no Chromium on PATH: `make packages` installs one")
    async with running_browser() as running:
        yield running


@pytest.fixture
async def shop(mesh: Mesh, edge: Edge, browser: Browser) -> AsyncIterator[Shop]:
    """The storefront; afterwards its pages have broken no rule and asked nobody else."""
    shop = Shop(mesh, edge, browser)
    yield shop
    await shop.close()
    assert shop.faults == []
    assert shop.foreign == []


@pytest.fixture(scope="package")
async def operators(
    mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OperatorEdge]:
    """An edge with an operators' listener, and the console on it."""
    async with operator_edge(mesh, tmp_path_factory.mktemp("edge-console")) as running:
        yield running


@pytest.fixture
async def console(mesh: Mesh, operators: OperatorEdge, browser: Browser) -> AsyncIterator[Console]:
    """The console; afterwards its pages have broken no rule and asked nobody else."""
    console = Console(mesh, operators.edge, browser)
    yield console
    await console.close()
    assert console.faults == []
    assert console.foreign == []
