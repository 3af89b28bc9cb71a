"""Orders in the database: reads, and every transition but the payment (payments/repository.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from order_svc.db.database import Connection, Database, Row
from order_svc.db.statements import statement
from seckill.errors import NotAllowed, OrderNotFound, OrderStateConflict
from seckill.runtime import request_ids

NO_LEASE = timedelta()


@dataclass(frozen=True)
class Change:
    """An order after a call.

    Attributes:
        order: row of find_orders.sql.
        changed: whether this very call changed it.
        claimed: whether another caller has claimed the return of its units.
    """

    order: Row
    changed: bool
    claimed: bool = False


class OrderRepository:
    """The table of orders. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, order_nos: Sequence[str]) -> list[Row]:
        """Return the rows of find_orders.sql for those of the numbers that exist."""
        return await self._database.fetch("orders/find_orders", order_nos)

    async def get(self, order_no: str) -> Row:
        """Return one order; raises OrderNotFound."""
        rows = await self.find([order_no])
        if not rows:
            raise OrderNotFound
        return rows[0]

    async def page(
        self, *, sku: str, user_id: str, status: str, before: str, limit: int
    ) -> list[Row]:
        """Return up to `limit` orders numbered below `before`, newest first; "" does not filter."""
        return await self._database.fetch("orders/list_orders", sku, user_id, status, before, limit)

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
            lease: for how long the caller claims those of them whose units are out; NO_LEASE claims
                none, and ignores the claims of others.

        Returns:
            Those of the orders that exist, as they stand now.
        """
        cancelled, rows = await self._cancel(order_nos, reason="expired", user_id="", lease=lease)
        out = [row["order_no"] for row in rows if row["returned"] and row["restored_at"] is None]
        others = set(out) - cancelled if lease else set[str]()
        if others:
            claimed = await self._database.fetch("orders/claim_orders", list(others), lease)
            others -= {row["order_no"] for row in claimed}
        return [
            Change(row, changed=row["order_no"] in cancelled, claimed=row["order_no"] in others)
            for row in rows
        ]

    async def _cancel(
        self, order_nos: Sequence[str], *, reason: str, user_id: str, lease: timedelta = NO_LEASE
    ) -> tuple[set[str], list[Row]]:
        async def work(connection: Connection) -> tuple[set[str], list[Row]]:
            await connection.fetch(statement("orders/lock_sales_of_orders"), order_nos, "pending")
            cancelled = await connection.fetch(
                statement("orders/cancel_orders"),
                order_nos,
                reason,
                user_id,
                lease,
                request_ids.current(),
            )
            rows = await connection.fetch(statement("orders/find_orders"), order_nos)
            return {row["order_no"] for row in cancelled}, rows

        return await self._database.transact(work)

    async def refund(self, order_no: str, *, refund_id: str, restock: bool) -> Change:
        """Record that a paid order was paid back.

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
            await connection.fetch(statement("orders/lock_sales_of_orders"), [order_no], "paid")
            refunded = await connection.fetch(
                statement("orders/refund_order"),
                order_no,
                refund_id,
                restock,
                request_ids.current(),
            )
            return bool(refunded), await connection.fetch(
                statement("orders/find_orders"), [order_no]
            )

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
        """Return up to `limit` rows of list_unrestored.sql, oldest first."""
        return await self._database.fetch("orders/list_unrestored", limit)

    async def claim_unrestored(self, limit: int, *, lease: timedelta) -> list[Row]:
        """Claim up to `limit` orders for `lease`; return the rows of claim_unrestored.sql."""
        return await self._database.fetch("orders/claim_unrestored", limit, lease)

    async def expired(self, limit: int, *, overdue: timedelta = timedelta()) -> list[str]:
        """Return up to `limit` numbers of pending orders, oldest first, that are `overdue`."""
        rows = await self._database.fetch("orders/list_expired", limit, overdue)
        return [row["order_no"] for row in rows]

    async def mark_restored(self, order_nos: Sequence[str]) -> list[str]:
        """Record that the units of these orders are back; return the numbers recorded now."""
        rows = await self._database.fetch("orders/mark_restored", order_nos)
        return [row["order_no"] for row in rows]
