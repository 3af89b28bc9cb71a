"""What an earlier release has on record becomes rows of `payments`, and it still can write."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from devstack import Stores
from order_svc.db.migrate import migrate, migrations_config
from tests.kits.payments import open_till, paid
from tests.kits.stores import with_database

A, B, C, D = ("A" * 26, "B" * 26, "C" * 26, "D" * 26)
SALE = """
INSERT INTO sales (sku, title, total, unit_price_minor, currency, purchase_limit, ends_at,
                   payment_window, rebuy_allowed)
VALUES ('kettle', 'A kettle', 10, 500, 'EUR', 1, now() + interval '1 h', '15 min', false)
"""
ORDER = """
INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency, status,
                    epoch, expires_at, paid_at, payment_id, cancelled_at, cancel_reason,
                    refunded_at, refund_id)
VALUES ($1, 'kettle', $1, 'r', 1, 500, 'EUR', $2, 1, now() + interval '1 h',
        CASE WHEN $2 IN ('paid', 'refunded') THEN now() END,
        CASE WHEN $2 IN ('paid', 'refunded') THEN 'pays-' || $1 END,
        CASE WHEN $2 IN ('cancelled', 'rejected') THEN now() END,
        CASE $2 WHEN 'cancelled' THEN 'buyer' WHEN 'rejected' THEN 'no_stock' END,
        CASE WHEN $2 = 'refunded' THEN now() END,
        CASE WHEN $2 = 'refunded' THEN 'refund-1' END)
"""
# As the release before the table has them.
LATE = "INSERT INTO late_payments VALUES ($1, $2, 500, 'EUR')"
PAY = """
UPDATE orders SET status = 'paid', paid_at = now(), payment_id = $2
WHERE order_no = $1 AND status = 'pending'
"""


@dataclass(frozen=True)
class Earlier:
    """A database of the release before the table `payments`."""

    dsn: str
    sql: asyncpg.Connection

    async def payments(self) -> dict[str, tuple[str, str | None, str, str | None]]:
        """Return state, reason, order and refund of each payment; all have no known provider."""
        rows = await self.sql.fetch("SELECT * FROM payments")
        assert {row["provider"] for row in rows} <= {"unknown"}
        return {
            row["payment_id"]: (row["state"], row["reason"], row["order_no"], row["refund_id"])
            for row in rows
        }


@pytest.fixture
async def earlier(stores: Stores) -> AsyncIterator[Earlier]:
    """Migrate a new database as far as the earlier release."""
    name = f"earlier_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = with_database(stores.postgres_dsn, name)

    def upgrade(connection: Connection) -> None:
        config = migrations_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()
    sql = await asyncpg.connect(dsn)
    await sql.execute(SALE)
    yield Earlier(dsn, sql)
    await sql.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_what_is_on_record_is_migrated(earlier: Earlier) -> None:
    """Applied, refunded, late, late for a rejected order; what paid an order is owed for none."""
    for number, status in ((A, "paid"), (B, "refunded"), (C, "cancelled"), (D, "rejected")):
        await earlier.sql.execute(ORDER, number, status)
    for payment_id, number in (("late", C), ("rejected", D), (f"pays-{A}", C)):
        await earlier.sql.execute(LATE, payment_id, number)
    await migrate(earlier.dsn)
    assert await earlier.payments() == {
        f"pays-{A}": ("applied", None, A, None),
        f"pays-{B}": ("refunded", None, B, "refund-1"),
        "late": ("to_refund", "too_late", C, None),
        "rejected": ("to_refund", "order_rejected", D, None),
    }


async def test_earlier_release_keeps_writing(earlier: Earlier) -> None:
    """While its replicas still run, what they pay, note as late and refund is on record."""
    await migrate(earlier.dsn)
    for number, status in ((A, "pending"), (B, "pending"), (C, "cancelled")):
        await earlier.sql.execute(ORDER, number, status)
    await earlier.sql.execute(PAY, A, "first")
    await earlier.sql.execute(LATE, "late", C)
    refund = "UPDATE orders SET status = 'refunded', refunded_at = now(), refund_id = 'r'"
    await earlier.sql.execute(f"{refund} WHERE order_no = $1", A)
    with pytest.raises(asyncpg.UniqueViolationError):
        await earlier.sql.execute(PAY, B, "first")
    assert await earlier.payments() == {
        "first": ("refunded", None, A, "r"),
        "late": ("to_refund", "too_late", C, None),
    }


async def test_payment_of_an_earlier_release_is_known_by_its_id(database_dsn: str) -> None:
    """Stated again with its provider it is the same payment, not a second one to be refunded."""
    async with open_till(database_dsn) as till:
        number = await till.order()
        await till.sql.execute(PAY, number, "before")
        change = await till.payments.pay(paid(number, payment_id="before"))
        assert (change.order["status"], change.changed) == ("paid", False)
        assert await till.sql.fetchval("SELECT count(*) FROM payments") == 1
