"""`seckill preflight` against a real mesh: go, each kind of no-go, and nothing that stays."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from devstack import Stores
from seckill.client import CallFailed, SeckillClient
from seckill.shadow import PREFIX, new_sku
from seckill.v1 import gateway_pb2, inventory_pb2
from tests.kits.actions import CALL_S, Gateway, Inventory, buy, open_sale, order_when_there
from tests.kits.command import seckill
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import ALL_SECURE, Mesh
from tests.kits.own_mesh import own_mesh
from tests.kits.stores import blocking_client
from tests.kits.waiting import eventually

GO, UNKNOWN, NO_GO = 0, 1, 2
# A busy machine is slow, and that is not what these tests are about.
SMALL = ("--buyers", "200", "--units", "40", "--seconds", "2", "--deadline", "30")
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
    with blocking_client(stores) as client:
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


@pytest.mark.parametrize("buckets", [1, 3])
async def test_a_shadow_sale_sells_unseen_and_is_removed(
    mesh: Mesh, gateway: Gateway, inventory: Inventory, buckets: int
) -> None:
    """Not on the storefront's list, nor on the operators', nor in the metrics, while it sells."""
    sku, user = new_sku(), new_id("buyer")
    terms = sale_terms(units=3, sku=sku)
    terms.buckets = buckets
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
    async with SeckillClient(
        mesh.address("gateway"), credentials=mesh.call_credentials()
    ) as client:
        try:
            await client.acting_for(mesh.issuer.token(new_id("buyer"))).buy(sku, timeout_s=2)
        except CallFailed as failure:
            return failure.reason or failure.code.name
    return ""


@contextmanager
def redis_set(stores: Stores, **changes: str) -> Iterator[None]:
    """Set settings of Redis for the time of the block."""
    with blocking_client(stores) as client:
        names = {name: name.replace("_", "-") for name in changes}
        before = {name: client.config_get(names[name])[names[name]] for name in changes}
        for name, value in changes.items():
            client.config_set(names[name], value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(names[name], value)


def failed(document: Mapping[str, Any], name: str, *words: str) -> None:
    """Require that a check failed, and that found and advice have these words."""
    one = check(document, name)
    assert one["verdict"] == "failed", one
    text = f"{one['found']} {one['advice']}"
    assert one["advice"]
    for word in words:
        assert word in text, text


async def test_redis_without_an_append_only_file_is_no_go(mesh: Mesh, sku: str) -> None:
    """A restart would lose what was promised; the command says what to set."""
    with redis_set(mesh.stores, appendonly="no"):
        document = preflight(mesh, sku, "--checks-only", status=NO_GO)
    failed(document, "redis durability", "appendonly is no", "CONFIG SET appendonly yes")


async def test_too_little_memory_for_the_holds_is_no_go(mesh: Mesh, sku: str) -> None:
    """A million orders need 600 MB; Redis may have 64."""
    with redis_set(mesh.stores, maxmemory=str(64 * 2**20)):
        document = preflight(mesh, sku, "--checks-only", "--units", "1000000", status=NO_GO)
    failed(document, "redis memory", "1,000,000 units", "CONFIG SET maxmemory")


async def test_a_bucket_that_is_too_small_for_the_crowd_is_no_go(mesh: Mesh, sku: str) -> None:
    """By the limit that operators have set, not by the setting alone."""
    set_now = seckill(mesh, "limits", "set", "rate_all=10", "burst_all=10")
    revision = float(set_now.split()[-1])
    crowd = ("--buyers", "5000", "--seconds", "10")
    try:

        async def heard() -> str:
            return mesh.metrics("gateway")

        heard_of = f"seckill_gateway_rules_revision {revision}"
        await eventually(heard, lambda text: heard_of in text)
        document = preflight(mesh, sku, "--checks-only", *crowd, status=NO_GO)
    finally:
        seckill(mesh, "limits", "reset", "rate_all", "burst_all")
    failed(document, "limit of all calls", "5,000 buyers", "seckill limits set rate_all=2000")


async def test_the_kill_switch_is_no_go(mesh: Mesh, sku: str) -> None:
    """Nothing would be sold."""
    seckill(mesh, "kill-switch", "on", "--reason", "trial")
    try:
        document = preflight(mesh, sku, "--checks-only", status=NO_GO)
    finally:
        seckill(mesh, "kill-switch", "off")
    failed(document, "kill switch", "trial", "seckill kill-switch off")


async def test_a_sale_without_its_units_is_no_go(mesh: Mesh, sku: str) -> None:
    """It has 40, and 50 are to be sold."""
    document = preflight(mesh, sku, "--checks-only", "--units", "50", status=NO_GO)
    failed(document, "units", "50 are expected", "seckill sale add-stock")


async def test_without_identities_it_could_not_tell(mesh: Mesh, sku: str) -> None:
    """Nothing speaks against the sale, and nobody has rehearsed it."""
    document = preflight(mesh, sku, *SMALL, status=UNKNOWN)
    assert "--identities" in document["reasons"][-1]
    assert all(one["verdict"] in {"ok", "warning"} for one in document["checks"])


async def test_checks_are_for_operators(mesh: Mesh, sku: str) -> None:
    """A buyer's token is refused, and the table says what is missing."""
    told = seckill(
        mesh,
        *("preflight", sku, "--checks-only", "--token", mesh.issuer.token("mallory")),
        status=UNKNOWN,
    )
    assert "PERMISSION_DENIED" in told
    assert "roles" in told


async def test_the_table_says_what_to_do_about_each_failure(mesh: Mesh, sku: str) -> None:
    """For people: verdict, check, where, what was found, what to do."""
    told = seckill(mesh, "preflight", sku, "--checks-only", "--units", "50", status=NO_GO)
    assert "NO-GO" in told
    line = next(line for line in told.splitlines() if "FAILED" in line)
    assert sku in line
    assert "units" in line


@asynccontextmanager
async def mesh_of_one_partition(
    stores: Stores, redis_url: str, database_dsn: str, directory: Path
) -> AsyncIterator[Mesh]:
    """Start a mesh whose topic of reservations has one partition."""
    async with own_mesh(
        stores,
        redis_url=redis_url,
        database_dsn=database_dsn,
        directory=directory,
        partitions=1,
        secure=ALL_SECURE,
    ) as own:
        with own:
            yield own


@pytest.mark.slow
async def test_one_partition_and_an_order_service_that_is_down_are_no_go(
    stores: Stores, redis_url: str, database_dsn: str, tmp_path: Path
) -> None:
    """The first is named with the command that adds partitions, the second with its address."""
    async with mesh_of_one_partition(stores, redis_url, database_dsn, tmp_path) as own:
        sku = await open_sale(own, sale_terms(units=40))

        async def told() -> Mapping[str, Any]:
            return preflight(own, sku, "--checks-only", status=NO_GO)

        document = await eventually(
            told, lambda found: check(found, "consumers")["verdict"] == "ok", timeout_s=30
        )
        failed(document, "partitions", "has 1", "kafka-topics.sh --alter")
        own.kill("order")
        document = preflight(own, sku, "--checks-only", status=NO_GO)
        failed(document, "answers", "UNAVAILABLE", "start it")
        assert own.address("order") in check(document, "answers")["where"]
