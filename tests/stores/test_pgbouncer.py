"""PgBouncer in transaction mode between the order service and its database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from devstack import Stores
from order_svc.audit.audit import SaleAuditor
from order_svc.db.database import (
    Connection,
    Database,
    SchemaMissing,
    open_database,
    wait_for_schema,
)
from order_svc.db.migrate import migrate
from order_svc.gate.feed import read_rules
from order_svc.intake.writer import OrderWriter
from order_svc.sales.recovery import SaleRecovery
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from tests.kits.factories import new_id
from tests.kits.order_store import reservations, settings_for, terms
from tests.kits.own_mesh import own_mesh
from tests.kits.secure.debian import pgbouncer_binary
from tests.kits.secure.pgbouncer import SESSIONS, PgBouncer
from tests.kits.selling import sell_out
from tests.kits.stores import one_server

AT_ONCE = 8
DAY_S = 24 * 3_600


def pooled(dsn: str, **changes: object) -> OrderSettings:
    """Return the settings of a service whose database is behind a pooler."""
    facts = settings_for(dsn).model_dump() | {"postgres_pooler": "transaction"} | changes
    return OrderSettings.model_validate(facts)


def name_of(dsn: str) -> str:
    """Return the database in an address."""
    return dsn.rpartition("/")[2]


@pytest.fixture
async def database(pgbouncer: PgBouncer, database_dsn: str) -> AsyncIterator[Database]:
    """Open the test's database through PgBouncer, with more connections than it has sessions."""
    settings = pooled(pgbouncer.dsn(name_of(database_dsn)), postgres_connections_max=AT_ONCE)
    async with open_database(settings) as opened:
        yield opened


async def test_more_transactions_than_sessions_run_at_once(database: Database) -> None:
    """Each statement finds what it needs in whatever session it is lent."""
    sales = SaleRepository(database)
    skus = [new_id("sku") for _ in range(AT_ONCE)]
    for sku in skus:
        await sales.register(terms(sku))
    writer = OrderWriter(database)
    for _ in range(5):
        written = await asyncio.gather(*(writer.write(reservations(sku, 20)) for sku in skus))
        assert all(len(batch.fresh) == 20 for batch in written)
    auditor = SaleAuditor(database, orders_max=1_000)
    audits = await asyncio.gather(*(auditor.audit(sku) for sku in skus))
    rules = await asyncio.gather(*(read_rules(database) for _ in range(AT_ONCE)))
    assert {one.revision for one in rules} == {0}
    assert all(audit.wrong is None and audit.compared == 100 for audit in audits)


async def test_pages_of_a_snapshot_are_read_while_others_use_the_sessions(
    database: Database,
) -> None:
    """A cursor lives as long as its transaction, which keeps its session."""
    sku = new_id("sku")
    await SaleRepository(database).register(terms(sku, total=5_000))
    writer = OrderWriter(database)
    for _ in range(3):
        await writer.write(reservations(sku, 1_000))
    recovery = SaleRecovery(database)
    seen = 0
    async with recovery.snapshot(sku) as snapshot:
        async for page in snapshot.pages:
            seen += len(page)
            await database.fetch("sales/find_sale", sku)
    assert seen == 3_000


async def test_the_server_ends_what_takes_too_long_and_no_setting_stays_behind(
    pgbouncer: PgBouncer, database_dsn: str
) -> None:
    """The limit is that of the transaction: the session's next borrower has none."""
    dsn = pgbouncer.dsn(name_of(database_dsn))

    async def sleep(connection: Connection) -> None:
        await connection.execute(f"SELECT pg_sleep({DAY_S})")

    async with open_database(pooled(dsn, postgres_timeout_s=1.0)) as database:
        with pytest.raises(DependencyUnavailable) as ended:
            await database.transact(sleep)
    assert isinstance(ended.value.__cause__, asyncpg.QueryCanceledError)
    borrowers = [await asyncpg.connect(dsn, statement_cache_size=0) for _ in range(SESSIONS)]
    limits = await asyncio.gather(
        *(
            borrower.fetchval("SELECT current_setting('statement_timeout')")
            for borrower in borrowers
        )
    )
    for borrower in borrowers:
        await borrower.close()
    assert set(limits) == {"0"}


async def test_windows_of_days_are_right_through_the_pooler(database: Database) -> None:
    """The zone is ours, whatever the session's was."""

    async def zone(connection: Connection) -> str:
        return str(await connection.fetchval("SELECT current_setting('timezone')"))

    assert await database.transact(zone) == "UTC"


async def test_without_the_setting_the_order_service_says_which_one(
    pgbouncer: PgBouncer, database_dsn: str
) -> None:
    """PgBouncer's own words, and the variable."""
    async with open_database(settings_for(pgbouncer.dsn(name_of(database_dsn)))) as database:
        with pytest.raises(SchemaMissing) as refused:
            await wait_for_schema(database, timeout_s=2.0)
    assert "unsupported startup parameter" in str(refused.value)
    assert "SECKILL_POSTGRES_POOLER=transaction" in str(refused.value)


async def test_a_pooler_that_drops_settings_is_noticed(
    stores: Stores, database_dsn: str, tmp_path: Path
) -> None:
    """With ignore_startup_parameters statements would have no limit, and fail at random."""
    ignored = "statement_timeout,idle_in_transaction_session_timeout,plan_cache_mode,jit"
    with PgBouncer(
        tmp_path,
        binary=pgbouncer_binary(),
        behind=stores.postgres_dsn,
        settings=f"ignore_startup_parameters = {ignored}",
    ) as careless:
        async with open_database(settings_for(careless.dsn(name_of(database_dsn)))) as database:
            with pytest.raises(SchemaMissing, match="SECKILL_POSTGRES_POOLER=transaction"):
                await wait_for_schema(database, timeout_s=2.0)


async def test_migrations_through_the_pooler(stores: Stores, pgbouncer: PgBouncer) -> None:
    """Again changes nothing, in whatever session: the first one has left no statement behind."""
    admin = await asyncpg.connect(stores.postgres_dsn)
    name = f"pooled_{new_id('db').replace('-', '_')}"
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        for _ in range(SESSIONS + 1):
            await migrate(pgbouncer.dsn(name))
        async with open_database(pooled(pgbouncer.dsn(name))) as database:
            await wait_for_schema(database, timeout_s=5.0)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@one_server
@pytest.mark.slow
async def test_a_sale_through_the_pooler_on_a_redis_of_two_meshes(
    stores: Stores, redis_url: str, database_dsn: str, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    """More connections than there are sessions; keys of its own beside those of another mesh."""
    async with redis.asyncio.Redis.from_url(redis_url) as shared:
        await shared.set("seckill:mesh", "another")
    async with own_mesh(
        stores,
        redis_url=redis_url,
        database_dsn=pgbouncer.dsn(name_of(database_dsn)),
        directory=tmp_path,
        settings={"SECKILL_POSTGRES_POOLER": "transaction", "SECKILL_REDIS_PREFIX": "shop-b"},
    ) as mesh:
        await asyncio.to_thread(mesh.__enter__)
        await sell_out(mesh)
    async with redis.asyncio.Redis.from_url(redis_url) as shared:
        keys = {key.decode() async for key in shared.scan_iter()}
        assert await shared.get("seckill:mesh") == b"another"
    assert "shop-b:delay" in keys
    assert all(key.startswith(("shop-b:", "{shop-b:gate}:")) for key in keys - {"seckill:mesh"})
