"""A sale in a database of the test's own, its orders, and what is stated as paid for them."""

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from order_svc.db.database import open_database
from order_svc.intake.writer import OrderWriter
from order_svc.orders.repository import OrderRepository
from order_svc.payments.model import Payment
from order_svc.payments.repository import PaymentRepository
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.order_no import make_order_nos
from seckill.v1.events_pb2 import OrderReserved
from tests.kits.factories import PRICE, new_id, sale_terms

PROVIDER = "psp"


class Till:
    """A sale's orders and payments.

    Attributes:
        sku: of the sale.
        orders, payments: the repositories under test.
        sql: a connection of the test's own.
    """

    def __init__(self, dsn: str, sku: str, writer: OrderWriter, sql: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.sku = sku
        self.sql = sql
        self._writer = writer
        self.orders: OrderRepository
        self.payments: PaymentRepository

    def number(self) -> str:
        """Return the number of an order that is not written yet."""
        (number,) = make_order_nos([new_id("buyer")], now_s=time.time(), rng=random.Random())
        return number

    async def order(self, state: str = "pending", *, number: str = "") -> str:
        """Write an order of a new buyer, bring it into a state, and return its number.

        Args:
            state: pending, expired (pending, out of time), paid, cancelled, refunded, or rejected.
            number: of the order; a new one by default.
        """
        user = new_id("buyer")
        number = number or self.number()
        units = 10_000 if state == "rejected" else 1
        event = OrderReserved(
            order_no=number, sku=self.sku, user_id=user, request_id="r", quantity=units, epoch=1
        )
        await self._writer.write([event])
        if state == "expired":
            await self.expire(number)
        elif state == "cancelled":
            await self.orders.cancel(number, user_id="")
        elif state in ("paid", "refunded"):
            await self.payments.pay(paid(number))
        if state == "refunded":
            await self.orders.refund(number, refund_id=new_id("refund"), restock=True)
        return number

    async def expire(self, number: str) -> None:
        """End an order's time to pay."""
        await self.sql.execute(
            "UPDATE orders SET created_at = now() - interval '2 h', expires_at = now()"
            " - interval '1 h' WHERE order_no = $1",
            number,
        )

    async def on_record(self, payment: Payment) -> tuple[str, str | None, str] | None:
        """Return state, reason and order of a payment; None if it is not on record."""
        row = await self.sql.fetchrow(
            "SELECT state, reason, order_no FROM payments WHERE provider = $1 AND payment_id = $2",
            payment.provider,
            payment.payment_id,
        )
        return None if row is None else (row["state"], row["reason"], row["order_no"])

    async def announced(self, number: str) -> list[str]:
        """Return the kinds of an order's events about payments, in their order."""
        rows = await self.sql.fetch(
            "SELECT kind FROM order_events WHERE order_no = $1 AND kind LIKE 'pa%' ORDER BY id",
            number,
        )
        return [row["kind"] for row in rows]


def paid(order_no: str, **changes: Any) -> Payment:
    """The right payment for one unit, but for the changes."""
    facts: dict[str, Any] = {
        "order_no": order_no,
        "provider": PROVIDER,
        "payment_id": new_id("payment"),
        "amount_minor": PRICE.minor_units,
        "currency": PRICE.currency,
    }
    return Payment(**(facts | changes))


@asynccontextmanager
async def open_till(dsn: str, *, units: int = 900) -> AsyncIterator[Till]:
    """Register a sale in a migrated database."""
    facts = {"postgres_dsn": dsn, "redis_url": "redis://none", "kafka_bootstrap": "n:1"}
    sql = await asyncpg.connect(dsn)
    async with open_database(OrderSettings.model_validate(facts)) as database:
        terms = sale_terms(units=units)
        await SaleRepository(database).register(terms)
        till = Till(dsn, terms.sku, OrderWriter(database), sql)
        till.orders = OrderRepository(database)
        till.payments = PaymentRepository(database)
        yield till
    await sql.close()
