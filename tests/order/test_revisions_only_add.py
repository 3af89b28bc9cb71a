"""Revisions of the database only add, so that the release before runs on the newest schema.

That is what a rolling upgrade needs while it goes on, and a rollback afterwards.
"""

import uuid
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from devstack import Stores
from order_svc.db.migrate import migrations_config
from tests.kits.stores import with_database

COLUMNS = """
SELECT table_name || '.' || column_name AS name, udt_name AS type, is_nullable = 'YES' AS nullable,
       column_default IS NOT NULL OR is_nullable = 'YES' OR is_identity = 'YES' AS may_be_left_out
FROM information_schema.columns
WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
Schema = Mapping[str, asyncpg.Record]


@pytest.fixture
async def dsn(stores: Stores) -> AsyncIterator[str]:
    """Create a database without a schema."""
    name = f"revisions_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    yield with_database(stores.postgres_dsn, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


def breaks(before: Schema, after: Schema) -> list[str]:
    """Return what a release that knows the schema `before` could not do with `after`."""
    tables = {name.partition(".")[0] for name in before}
    found = [f"{name} is gone" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        if before[name]["type"] != after[name]["type"]:
            found.append(f"{name} has another type")
        if before[name]["nullable"] and not after[name]["nullable"]:
            found.append(f"{name} is needed now")
    found += [
        f"{name} is new, and the release before leaves it out"
        for name in after.keys() - before.keys()
        if name.partition(".")[0] in tables and not after[name]["may_be_left_out"]
    ]
    return found


async def read(dsn: str) -> Schema:
    """Return the columns of all tables by their names."""
    sql = await asyncpg.connect(dsn)
    try:
        return {row["name"]: row for row in await sql.fetch(COLUMNS)}
    finally:
        await sql.close()


async def upgrade(dsn: str, revision: str) -> None:
    """Bring the database to a revision."""

    def run(connection: Connection) -> None:
        config = migrations_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


async def test_each_revision_leaves_what_the_one_before_made(dsn: str) -> None:
    """No column goes, changes its type or is needed from now on."""
    scripts = ScriptDirectory.from_config(migrations_config()).walk_revisions()
    revisions = sorted(script.revision for script in scripts)
    before: Schema = {}
    for revision in revisions:
        await upgrade(dsn, revision)
        after = await read(dsn)
        assert not breaks(before, after), revision
        before = after
    assert "orders.order_no" in before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("ALTER TABLE orders DROP COLUMN refund_id CASCADE", "gone"),
        ("ALTER TABLE orders RENAME COLUMN user_id TO buyer_id", "gone"),
        ("ALTER TABLE sales ALTER COLUMN title TYPE varchar(9)", "type"),
        ("ALTER TABLE orders ALTER COLUMN refund_id SET NOT NULL", "needed"),
        ("ALTER TABLE sales ADD COLUMN country text NOT NULL", "leaves it out"),
    ],
)
async def test_a_revision_that_takes_something_away_is_noticed(
    dsn: str, change: str, word: str
) -> None:
    """The test above can fail."""
    await upgrade(dsn, "head")
    before = await read(dsn)
    sql = await asyncpg.connect(dsn)
    await sql.execute(change)
    await sql.close()
    assert any(word in problem for problem in breaks(before, await read(dsn)))
