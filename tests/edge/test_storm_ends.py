"""No refusal of Envoy's outlives the agent, the routes or the inventory behind it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kits.edge import AGENT, ENVOY, Edge
from tests.kits.late_buyers import (
    SOLD_OUT,
    purchase_late,
    sell_out,
    until_inventory_is_found,
    until_the_gateway_is_asked,
    without_the_gateway,
)
from tests.kits.mesh import Mesh


@pytest.fixture(scope="module")
def own(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose parts are killed and frozen."""
    with Edge(mesh.settings, directory=tmp_path_factory.mktemp("storm")) as running:
        yield running


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_agent_that_is_gone_leaves_no_refusal_behind(
    own: Edge, mesh: Mesh, how: str
) -> None:
    """SIGKILL or SIGSTOP: the lease expires in Envoy, which asks the gateway again."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    if how == "killed":
        own.kill(AGENT)
    else:
        own.freeze_agent()
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sale.sku))
    # A new Envoy reads the old routes, whose lease is not granted.
    own.kill(ENVOY)
    await asyncio.to_thread(own.start, ENVOY)
    assert sale.sku in (own.directory / "edge" / "routes" / "routes.json").read_text()
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sale.sku))
    if how == "killed":
        await asyncio.to_thread(own.start, AGENT)
    else:
        own.thaw_agent()
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))


async def test_routes_that_envoy_cannot_read_end_the_refusals(own: Edge, mesh: Mesh) -> None:
    """With a broken file the old routes stay, tied to a lease that the agent replaces."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    # A folder in the place of the agent's file.
    folder: Path = own.directory / "edge" / "routes"
    kept = (folder / "routes.json").read_text()
    (folder / "routes.json").unlink()
    (folder / "routes.json").mkdir()
    other = await sell_out(own, mesh)
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sale.sku))
    (folder / "routes.json").rmdir()
    (folder / "routes.json").write_text(kept)
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    await without_the_gateway(own, lambda: purchase_late(own, mesh, other.sku))


async def test_without_inventory_nothing_is_refused_and_without_a_gateway_it_still_is(
    own: Edge, mesh: Mesh
) -> None:
    """What is known of sales comes from inventory alone: while it is down it is not used."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    await asyncio.to_thread(mesh.terminate, "gateway")
    refused = await purchase_late(own, mesh, sale.sku)
    assert refused.json["outcome"] == SOLD_OUT
    await asyncio.to_thread(mesh.restart, "gateway")
    await asyncio.to_thread(mesh.kill, "inventory")
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sale.sku))
    await asyncio.to_thread(mesh.restart, "inventory")
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    # Before the next test sells anything.
    await until_inventory_is_found(own)


async def test_a_frozen_inventory_ends_the_refusals(own: Edge, mesh: Mesh) -> None:
    """Its stream stays open without a message: what it said expires."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    mesh.freeze("inventory")
    try:
        await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sale.sku))
    finally:
        mesh.thaw("inventory")
    await without_the_gateway(own, lambda: purchase_late(own, mesh, sale.sku))
    await until_inventory_is_found(own)
