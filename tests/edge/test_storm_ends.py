"""No refusal of Envoy's outlives who stands behind it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.kit import AGENT, ENVOY, Edge
from tests.edge.late import (
    SOLD_OUT,
    press,
    sell_out,
    until_inventory_is_found,
    until_the_gateway_is_asked,
    without_the_gateway,
)
from tests.mesh import Mesh


@pytest.fixture(scope="module")
def own(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose parts are killed and frozen."""
    with Edge(mesh.settings, directory=tmp_path_factory.mktemp("storm")) as running:
        yield running


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_agent_that_is_gone_leaves_no_refusal_behind(
    own: Edge, mesh: Mesh, how: str
) -> None:
    """SIGKILL or SIGSTOP: the lease runs out in Envoy, which asks the gateway again."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    if how == "killed":
        own.kill(AGENT)
    else:
        own.freeze_agent()
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sale.sku))
    # Envoy started anew finds the old routes, which nobody grants.
    own.kill(ENVOY)
    await asyncio.to_thread(own.start, ENVOY)
    assert sale.sku in (own.directory / "edge" / "routes" / "routes.json").read_text()
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sale.sku))
    if how == "killed":
        await asyncio.to_thread(own.start, AGENT)
    else:
        own.thaw_agent()
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))


async def test_routes_that_envoy_cannot_read_end_the_refusals(own: Edge, mesh: Mesh) -> None:
    """Somebody spoils the file: what was in force stays tied to a lease that the agent replaces."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    # What Envoy would refuse: a folder where the agent's file must go.
    folder: Path = own.directory / "edge" / "routes"
    kept = (folder / "routes.json").read_text()
    (folder / "routes.json").unlink()
    (folder / "routes.json").mkdir()
    other = await sell_out(own, mesh)
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sale.sku))
    (folder / "routes.json").rmdir()
    (folder / "routes.json").write_text(kept)
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    await without_the_gateway(own, lambda: press(own, mesh, other.sku))


async def test_without_inventory_nothing_is_refused_and_without_a_gateway_it_still_is(
    own: Edge, mesh: Mesh
) -> None:
    """Flags come from inventory alone: while it is away they are not believed."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    await asyncio.to_thread(mesh.terminate, "gateway")
    refused = await press(own, mesh, sale.sku)
    assert refused.json["outcome"] == SOLD_OUT
    await asyncio.to_thread(mesh.restart, "gateway")
    await asyncio.to_thread(mesh.kill, "inventory")
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sale.sku))
    await asyncio.to_thread(mesh.restart, "inventory")
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    # Before the next test sells anything.
    await until_inventory_is_found(own)


async def test_an_inventory_that_stands_still_is_not_believed_for_long(
    own: Edge, mesh: Mesh
) -> None:
    """Its stream stays open and says nothing: after a while that means nothing."""
    sale = await sell_out(own, mesh)
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    mesh.freeze("inventory")
    try:
        await until_the_gateway_is_asked(own, lambda: press(own, mesh, sale.sku))
    finally:
        mesh.thaw("inventory")
    await without_the_gateway(own, lambda: press(own, mesh, sale.sku))
    await until_inventory_is_found(own)
