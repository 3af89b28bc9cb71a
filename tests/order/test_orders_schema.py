"""The schema: how it comes up, and what it refuses any writer."""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from devstack import Stores
from order_svc.db.database import (
    SCHEMA_VERSION,
    SchemaMissing,
    open_database,
    wait_for_schema,
)
from order_svc.db.migrate import migrations_config
from order_svc.intake.writer import OrderWriter
from seckill.errors import DependencyUnavailable
from tests.kits.order_store import Store, reservations, settings_for

ROOT = Path(__file__).parents[2]


def test_required_schema_version_is_the_newest_revision() -> None:
    """The version that the service waits for at start is the one that the migration makes."""
    assert ScriptDirectory.from_config(migrations_config()).get_current_head() == SCHEMA_VERSION


async def test_migration_by_two_replicas_at_once_is_done_once(stores: Stores) -> None:
    """Two processes migrate an empty database, both succeed, and a third changes nothing."""
    name = f"empty_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = f"{stores.postgres_dsn.rpartition('/')[0]}/{name}"

    async def replica() -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "order_svc.db.migrate"),
            env={**os.environ, "SECKILL_POSTGRES_DSN": dsn},
            cwd=ROOT,
        )
        return await process.wait()

    try:
        assert not any(await asyncio.gather(replica(), replica()))
        assert await replica() == 0
        connection = await asyncpg.connect(dsn)
        versions = await connection.fetch("SELECT version_num FROM alembic_version")
        assert {row[0] for row in versions} == {SCHEMA_VERSION}
        await connection.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_missing_schema_names_the_command(store: Store) -> None:
    """Without the migration the service does not start, and says what to run."""
    await store.sql.execute("DROP TABLE alembic_version")
    with pytest.raises(SchemaMissing, match=r"python -m order_svc\.db\.migrate"):
        await wait_for_schema(store.database, timeout_s=0.2)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stock_ledger SET quantity = 2",
        "DELETE FROM stock_ledger",
        "TRUNCATE stock_ledger",
    ],
)
async def test_ledger_refuses_changes(store: Store, statement: str) -> None:
    """No user rewrites history, not even its owner."""
    await store.sale()
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await store.sql.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sales SET sold = total + 1",
        "UPDATE sales SET sold = -1",
        "UPDATE orders SET status = 'paid'",
        "UPDATE orders SET paid_at = now()",
        "UPDATE orders SET status = 'cancelled'",
        "UPDATE orders SET status = 'lost'",
        "UPDATE orders SET status = 'paid', payment_id = 'p', paid_at = expires_at",
        "UPDATE orders SET status = 'cancelled', cancelled_at = now(), cancel_reason = 'no_stock'",
        "UPDATE orders SET expires_at = created_at",
        "UPDATE orders SET quantity = 0",
        "INSERT INTO stock_ledger (sku, kind, quantity) VALUES ('s', 'reserved', 1)",
    ],
)
async def test_schema_refuses_what_breaks_a_rule(store: Store, statement: str) -> None:
    """Overselling and impossible orders are refused even when written by hand."""
    sku = await store.sale()
    await store.pending(sku, 1)
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql.execute(statement)


async def test_second_live_order_of_a_buyer_is_refused_by_the_schema(store: Store) -> None:
    """The unique index holds without the statements' care."""
    sku = await store.sale()
    await store.pending(sku, 2)
    with pytest.raises(asyncpg.UniqueViolationError, match="orders_one_live_per_buyer"):
        await store.sql.execute("UPDATE orders SET user_id = 'one' WHERE sku = $1", sku)


async def test_locked_table_is_a_fault_within_the_timeout(database_dsn: str, store: Store) -> None:
    """A statement that waits for too long is told as unavailable, and leaves nothing behind."""
    sku = await store.sale()
    settings = settings_for(database_dsn, postgres_timeout_s=0.2)
    async with open_database(settings) as database, store.sql.transaction():
        await store.sql.execute("LOCK TABLE orders")
        with pytest.raises(DependencyUnavailable):
            await OrderWriter(database).write(reservations(sku, 3))
    assert (await store.facts(sku))["sold"] == 0
