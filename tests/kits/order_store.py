"""The order database of a test: its repositories, and rows to put into it."""

import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from order_svc.db.database import (
    Database,
    open_database,
)
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.order_no import make_order_nos
from seckill.v1 import events_pb2, sale_pb2

PRICE = 1_999


def settings_for(dsn: str, **changes: float) -> OrderSettings:
    """Settings of a service that has only a database."""
    facts = {"postgres_dsn": dsn, "redis_url": "redis://none", "kafka_bootstrap": "none:1"}
    return OrderSettings.model_validate(facts | changes)


class Store:
    """The database under test: the repositories, and a connection of the test's own."""

    def __init__(self, database: Database, connection: asyncpg.Connection) -> None:
        self.database = database
        self.writer = OrderWriter(database)
        self.orders = OrderRepository(database)
        self.payments = PaymentRepository(database)
        self.sales = SaleRepository(database)
        self.sql = connection

    async def sale(self, *, total: int = 1_000, window_s: int = 900) -> str:
        """A registered sale."""
        sku = f"sku-{uuid.uuid4().hex}"
        await self.sales.register(terms(sku, total=total, window_s=window_s))
        return sku

    async def pending(self, sku: str, count: int) -> list[str]:
        """Numbers of this many new pending orders."""
        batch = await self.writer.write(reservations(sku, count))
        assert {status for _, status in batch.fresh} == {"pending"}
        return [event.order_no for event, _ in batch.fresh]

    async def expire(self, sku: str) -> None:
        """Move the sale's pending orders into the past, so that their time is over."""
        await self.sql.execute(
            "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
            " - interval '1 h' WHERE sku = $1 AND status = 'pending'",
            sku,
        )

    async def facts(self, sku: str) -> dict[str, int]:
        """Units sold, live and unrestored, and how many rows there are of everything."""
        row = await self.sql.fetchrow(
            """
            SELECT s.sold,
                   (SELECT coalesce(sum(quantity), 0) FROM orders WHERE sku = s.sku
                       AND status IN ('pending', 'paid')) AS live,
                   (SELECT count(*) FROM orders WHERE sku = s.sku) AS orders,
                   (SELECT count(*) FROM stock_ledger WHERE sku = s.sku) AS ledger,
                   (SELECT count(*) FROM restore_outbox WHERE sku = s.sku) AS outbox
            FROM sales s WHERE sku = $1
            """,
            sku,
        )
        return dict(row)


@pytest.fixture
async def store(database_dsn: str) -> AsyncIterator[Store]:
    """Repositories on a migrated database of the test's own."""
    connection = await asyncpg.connect(database_dsn)
    async with open_database(settings_for(database_dsn)) as database:
        yield Store(database, connection)
    await connection.close()


def terms(sku: str, *, total: int = 1_000, window_s: int = 900) -> sale_pb2.SaleTerms:
    """Terms of a sale that ends in an hour."""
    made = sale_pb2.SaleTerms(
        sku=sku,
        title="A kettle",
        total_units=total,
        unit_price=sale_pb2.Money(currency="EUR", minor_units=PRICE),
        purchase_limit=5,
    )
    made.end_time.FromSeconds(int(time.time()) + 3_600)
    made.payment_window.FromSeconds(window_s)
    return made


def reservations(
    sku: str, count: int, *, quantity: int = 1, users: Sequence[str] = ()
) -> list[events_pb2.OrderReserved]:
    """Reservations of new buyers, or of these."""
    buyers = users or [f"user-{uuid.uuid4().hex}" for _ in range(count)]
    order_nos = make_order_nos(buyers, now_s=time.time(), rng=random.Random())
    return [
        events_pb2.OrderReserved(
            order_no=number,
            sku=sku,
            user_id=user,
            request_id=uuid.uuid4().hex,
            quantity=quantity,
            epoch=1,
        )
        for number, user in zip(order_nos, buyers, strict=True)
    ]


def payment(order_no: str, **changes: object) -> Payment:
    """The right payment for one unit, but for the changes."""
    facts = {
        "order_no": order_no,
        "provider": "psp",
        "payment_id": f"pay-{uuid.uuid4().hex}",
        "amount_minor": PRICE,
        "currency": "EUR",
        "user_id": "",
    }
    return Payment(**(facts | changes))  # type: ignore[arg-type]
