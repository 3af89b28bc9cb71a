"""`seckill preflight` against a real mesh: go, each kind of no-go, and nothing that stays."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from devstack import Stores
from seckill.client import CallFailed, SeckillClient
from seckill.shadow import PREFIX, new_sku
from seckill.v1 import gateway_pb2, inventory_pb2
from tests.kits.actions import CALL_S, Gateway, Inventory, buy, open_sale, order_when_there
from tests.kits.command import seckill
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

GO, UNKNOWN, NO_GO = 0, 1, 2
SMALL = ("--buyers", "200", "--units", "40", "--seconds", "2")
# Tables that have rows of a sale or of its orders.
TABLES = ("sales", "sale_records", "orders", "restore_outbox", "stock_ledger")


def preflight(mesh: Mesh, sku: str, *options: str, status: int) -> Mapping[str, Any]:
    """Run the command with --json; it must exit with this status."""
    told = seckill(mesh, "preflight", sku, *options, "--json", status=status)
    document: Mapping[str, Any] = json.loads(told)
    assert document["answer"] == {GO: "go", NO_GO: "no-go", UNKNOWN: "unknown"}[status]
    return document


def check(document: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Return the check of this name that is not ok, or else the first one."""
    found = [one for one in document["checks"] if one["name"] == name]
    assert found, [one["name"] for one in document["checks"]]
    return next((one for one in found if one["verdict"] != "ok"), found[0])


@pytest.fixture
async def sku(mesh: Mesh) -> str:
    """Create the sale that is to be held."""
    return await open_sale(mesh, sale_terms(units=40))


@pytest.fixture
def identities(mesh: Mesh, tmp_path: Path) -> str:
    """Write a file of buyers' JWTs."""
    path = tmp_path / "identities"
    path.write_text("\n".join(mesh.issuer.token(new_id("buyer")) for _ in range(1_000)))
    return str(path)


async def rows_of_shadows(stores: Stores) -> dict[str, int]:
    """Count rows of shadow sales in each table."""
    connection = await asyncpg.connect(stores.postgres_dsn)
    try:
        return {
            table: await connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE starts_with(sku, $1)",  # noqa: S608
                PREFIX,
            )
            for table in TABLES
        }
    finally:
        await connection.close()


def keys_of(stores: Stores, orders: set[str] | None = None) -> list[bytes]:
    """Return the keys in Redis that name a shadow sale, and what is delayed of these orders."""
    with redis.Redis.from_url(stores.redis_url) as client:
        found = [key for key in client.scan_iter(count=1_000) if PREFIX.encode() in key]
        found += [sku for sku in client.smembers("seckill:skus") if sku.startswith(PREFIX.encode())]
        return found + [
            number for number in orders or () if client.zscore("seckill:delay", number) is not None
        ]


@pytest.mark.slow
async def test_a_sale_that_would_hold_is_go_and_leaves_nothing(
    mesh: Mesh, sku: str, identities: str
) -> None:
    """The forecast names the stages, and no store has anything of the rehearsal."""
    events = await _count_events(mesh.stores)
    document = preflight(mesh, sku, *SMALL, "--identities", identities, status=GO)
    rehearsal, expected = document["rehearsal"], document["forecast"]
    assert rehearsal["outcomes"] == {"RESERVED": 40, "SOLD_OUT": 160}
    assert rehearsal["failures"] == {}
    assert rehearsal["settled_s"] is not None
    assert expected["first"]
    assert expected["pods"]["gateway"] == 1
    costs = expected["cost_us"]
    assert costs["gateway"]["issue"] > 0
    assert costs["inventory"]["reserve"] > costs["inventory"]["refuse"]
    assert await rows_of_shadows(mesh.stores) == dict.fromkeys(TABLES, 0)
    assert keys_of(mesh.stores) == []
    assert PREFIX not in seckill(mesh, "sale", "list")
    assert await _count_events(mesh.stores) == events
    for service in ("gateway", "inventory", "order", "rollback"):
        assert PREFIX not in mesh.metrics(service)


async def _count_events(stores: Stores) -> int:
    connection = await asyncpg.connect(stores.postgres_dsn)
    try:
        return int(await connection.fetchval("SELECT last_value FROM order_events_id_seq"))
    finally:
        await connection.close()


async def test_a_shadow_sale_sells_unseen_and_is_removed(
    mesh: Mesh, gateway: Gateway, inventory: Inventory
) -> None:
    """Not on the storefront's list, nor on the operators', nor in the metrics, while it sells."""
    sku, user = new_sku(), new_id("buyer")
    terms = sale_terms(units=3, sku=sku)
    terms.start_time.GetCurrentTime()
    terms.end_time.FromSeconds(terms.start_time.seconds + 600)
    await open_sale(mesh, terms)
    bought = await buy(gateway, mesh, sku=sku, user=user)
    await order_when_there(gateway, mesh, order_no=bought.order_no, user=user)
    listed = await gateway.ListSales(gateway_pb2.GatewayServiceListSalesRequest(), timeout=CALL_S)
    assert sku not in {sale.terms.sku for sale in listed.sales}
    assert sku not in seckill(mesh, "sale", "list")
    shadows = await inventory.ListSales(inventory_pb2.ListSalesRequest(shadow=True), timeout=CALL_S)
    assert sku in {sale.terms.sku for sale in shadows.sales}
    assert all(sku not in mesh.metrics(service) for service in ("inventory", "order"))
    metadata = (("authorization", f"Bearer {mesh.issuer.token('olga', roles=['operator'])}"),)
    request = inventory_pb2.InventoryServiceRemoveShadowSaleRequest(sku=sku)
    answer = await inventory.RemoveShadowSale(request, metadata=metadata, timeout=CALL_S)
    assert answer.removed_orders == 1
    again = await inventory.RemoveShadowSale(request, metadata=metadata, timeout=CALL_S)
    assert again.removed_orders == 0
    assert await rows_of_shadows(mesh.stores) == dict.fromkeys(TABLES, 0)
    assert keys_of(mesh.stores, {bought.order_no}) == []

    async def attempt() -> str:
        return (await buy_or_fail(mesh, sku)).split(":")[0]

    await eventually(attempt, lambda told: told == "SALE_NOT_FOUND")


async def buy_or_fail(mesh: Mesh, sku: str) -> str:
    """Return why an attempt failed, "" if it did not."""
    async with SeckillClient(mesh.address("gateway")) as client:
        try:
            await client.acting_for(mesh.issuer.token(new_id("buyer"))).buy(sku, timeout_s=2)
        except CallFailed as failure:
            return failure.reason
    return ""
