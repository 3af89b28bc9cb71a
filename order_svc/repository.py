"""Orders in the database: reading them, and every way out of PENDING."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from order_svc.database import Connection, Database, Row
from order_svc.statements import statement
from seckill.errors import (
    DependencyUnavailable,
    NotAllowed,
    OrderNotFound,
    OrderStateConflict,
    PaymentMismatch,
    PaymentTooLate,
)

# A payment that meets an order just being written looks again this often.
PAY_ATTEMPTS_MAX = 3
NO_LEASE = timedelta()


@dataclass(frozen=True, kw_only=True)
class Payment:
    """What somebody paid.

    Attributes:
        order_no: for which order.
        payment_id: names the payment.
        amount_minor: in the currency's minor units.
        currency: ISO 4217 code.
        user_id: the order must be this buyer's; "" for any.
    """

    order_no: str
    payment_id: str
    amount_minor: int
    currency: str
    user_id: str


@dataclass(frozen=True)
class Change:
    """An order after a call.

    Attributes:
        order: row of find_orders.sql.
        changed: whether this very call changed it.
        claimed: whether somebody else has claimed the work of bringing its units back.
    """

    order: Row
    changed: bool
    claimed: bool = False


class OrderRepository:
    """Orders. Raises DependencyUnavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, order_nos: Sequence[str]) -> list[Row]:
        """Rows of find_orders.sql for those of the numbers that exist."""
        return await self._database.fetch("find_orders", order_nos)

    async def get(self, order_no: str) -> Row:
        """One order; raises OrderNotFound."""
        rows = await self.find([order_no])
        if not rows:
            raise OrderNotFound
        return rows[0]

    async def page(
        self, *, sku: str, user_id: str, status: str, before: str, limit: int
    ) -> list[Row]:
        """Up to `limit` orders with numbers below `before`, newest first; "" does not filter."""
        return await self._database.fetch("list_orders", sku, user_id, status, before, limit)

    async def pay(self, payment: Payment) -> Change:
        """Pay a pending order whose time is not over.

        Returns:
            The order paid by this payment, now or before.

        Raises:
            OrderNotFound, NotAllowed: no such order, or another buyer's.
            PaymentMismatch: amount or currency differ from the order's.
            PaymentTooLate: it was cancelled, rejected or has expired; the payment is on record.
            OrderStateConflict: another payment paid it, or this one paid another order.
        """
        for _ in range(PAY_ATTEMPTS_MAX):
            try:
                paid = await self._database.fetch(
                    "pay_order",
                    payment.order_no,
                    payment.payment_id,
                    payment.amount_minor,
                    payment.currency,
                    payment.user_id,
                )
            except asyncpg.UniqueViolationError as error:
                raise OrderStateConflict("this payment has paid another order") from error
            order = await self.get(payment.order_no)
            if paid:
                return Change(order, changed=True)
            _check_payment(payment, order)
            if order["payment_id"] == payment.payment_id:
                return Change(order, changed=False)
            if order["payment_id"] is not None:
                raise OrderStateConflict("another payment has paid this order")
            if order["status"] != "pending" or order["expired"]:
                raise await self._too_late(payment)
            # Written between the two statements: it can be paid now.
        raise DependencyUnavailable("the order changes too quickly")

    async def _too_late(self, payment: Payment) -> PaymentTooLate:
        noted = await self._database.fetch(
            "record_late_payment",
            payment.payment_id,
            payment.order_no,
            payment.amount_minor,
            payment.currency,
        )
        return PaymentTooLate(metadata={"first_notice": "true" if noted else "false"})

    async def cancel(self, order_no: str, *, user_id: str) -> Change:
        """Cancel a pending order for its buyer.

        Args:
            order_no: its number.
            user_id: it must be this buyer's; "" for any.

        Returns:
            The cancelled order, cancelled now or before.

        Raises:
            OrderNotFound, NotAllowed: no such order, or another buyer's.
            OrderStateConflict: it was paid, refunded or rejected.
        """
        cancelled, rows = await self._cancel([order_no], reason="buyer", user_id=user_id)
        if not rows:
            raise OrderNotFound
        order = rows[0]
        if user_id and order["user_id"] != user_id:
            raise NotAllowed
        if order["status"] != "cancelled":
            raise OrderStateConflict(f"the order is {order['status']}")
        return Change(order, changed=bool(cancelled))

    async def cancel_expired(
        self, order_nos: Sequence[str], *, lease: timedelta = NO_LEASE
    ) -> list[Change]:
        """Cancel those of the orders whose payment time is over.

        Args:
            order_nos: their numbers.
            lease: for how long the caller claims those of them whose units are out; nothing does
                not claim them, and heeds nobody's claim.

        Returns:
            Those of the orders that exist, as they stand now.
        """
        cancelled, rows = await self._cancel(order_nos, reason="expired", user_id="", lease=lease)
        out = [row["order_no"] for row in rows if row["returned"] and row["restored_at"] is None]
        others = set(out) - cancelled if lease else set[str]()
        if others:
            claimed = await self._database.fetch("claim_orders", list(others), lease)
            others -= {row["order_no"] for row in claimed}
        return [
            Change(row, changed=row["order_no"] in cancelled, claimed=row["order_no"] in others)
            for row in rows
        ]

    async def _cancel(
        self, order_nos: Sequence[str], *, reason: str, user_id: str, lease: timedelta = NO_LEASE
    ) -> tuple[set[str], list[Row]]:
        async def work(connection: Connection) -> tuple[set[str], list[Row]]:
            await connection.fetch(statement("lock_sales_of_orders"), order_nos, "pending")
            cancelled = await connection.fetch(
                statement("cancel_orders"), order_nos, reason, user_id, lease
            )
            rows = await connection.fetch(statement("find_orders"), order_nos)
            return {row["order_no"] for row in cancelled}, rows

        return await self._database.transact(work)

    async def refund(self, order_no: str, *, refund_id: str, restock: bool) -> Change:
        """Note that a paid order was paid back.

        Args:
            order_no: its number.
            refund_id: names the refund.
            restock: whether its units are for sale again; else they are written off.

        Returns:
            The order refunded by this refund, now or before.

        Raises:
            OrderNotFound: no such order.
            OrderStateConflict: it is not paid, another refund paid it back, this one paid back
                another order, or it was made with the other choice of restocking.
        """

        async def work(connection: Connection) -> tuple[bool, list[Row]]:
            await connection.fetch(statement("lock_sales_of_orders"), [order_no], "paid")
            refunded = await connection.fetch(
                statement("refund_order"), order_no, refund_id, restock
            )
            return bool(refunded), await connection.fetch(statement("find_orders"), [order_no])

        try:
            changed, rows = await self._database.transact(work)
        except asyncpg.UniqueViolationError as error:
            raise OrderStateConflict("this refund has paid back another order") from error
        if not rows:
            raise OrderNotFound
        order = rows[0]
        if order["status"] != "refunded":
            raise OrderStateConflict(f"the order is {order['status']}")
        if order["refund_id"] != refund_id:
            raise OrderStateConflict("another refund has paid this order back")
        if order["returned"] != restock:
            was = "restocked" if order["returned"] else "written off"
            raise OrderStateConflict(f"this refund was made, and its units were {was}")
        return Change(order, changed=changed)

    async def unrestored(self, limit: int) -> list[Row]:
        """Up to `limit` rows of list_unrestored.sql, oldest first."""
        return await self._database.fetch("list_unrestored", limit)

    async def claim_unrestored(self, limit: int, *, lease: timedelta) -> list[Row]:
        """Up to `limit` rows of claim_unrestored.sql, which are the caller's for `lease`."""
        return await self._database.fetch("claim_unrestored", limit, lease)

    async def expired(self, limit: int, *, overdue: timedelta = timedelta()) -> list[str]:
        """Numbers of up to `limit` pending orders, oldest first, whose time has been over for
        `overdue`.
        """
        rows = await self._database.fetch("list_expired", limit, overdue)
        return [row["order_no"] for row in rows]

    async def mark_restored(self, order_nos: Sequence[str]) -> list[str]:
        """Note that the units of these orders are back; returns the numbers noted by this call."""
        rows = await self._database.fetch("mark_restored", order_nos)
        return [row["order_no"] for row in rows]


def _check_payment(payment: Payment, order: Row) -> None:
    """Raises where the payment cannot be this order's, whatever its state."""
    if payment.user_id and order["user_id"] != payment.user_id:
        raise NotAllowed
    if (order["amount_minor"], order["currency"]) != (payment.amount_minor, payment.currency):
        raise PaymentMismatch
