"""What other services read to rebuild a sale in Redis, and to compare Redis with the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from order_svc.db.database import Connection, Database, Row, prepare
from order_svc.orders.model import STATES, timestamp
from order_svc.sales.model import record_of
from seckill.errors import SaleNotFound
from seckill.v1 import order_pb2

# Rows fetched at once, and orders in one message: about 100 KiB.
PAGE_ROWS = 1_000


@dataclass(frozen=True)
class Snapshot:
    """A sale as of one moment, and its orders, page by page."""

    sale: order_pb2.SaleRecord
    pages: AsyncIterator[list[order_pb2.SaleOrder]]


class SaleRecovery:
    """Epochs and snapshots of sales. Raises DependencyUnavailable without the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_of(self, sku: str) -> order_pb2.SaleRecord:
        """Return the sale as it is on record; raises SaleNotFound."""
        return record_of(_only(await self._database.fetch("sales/snapshot_sale", sku), sku))

    async def open_sales(self, *, after: str, limit: int) -> dict[str, int]:
        """Return sku → buckets of up to `limit` sales that may sell, in order, after `after`."""
        rows = await self._database.fetch("sales/list_open_sales", after, limit)
        return {row["sku"]: row["buckets"] for row in rows}

    async def raise_epoch(self, sku: str) -> int:
        """Raise the epoch of a sale by one and return it; raises SaleNotFound."""
        return int(_only(await self._database.fetch("sales/raise_epoch", sku), sku)["epoch"])

    @asynccontextmanager
    async def snapshot(self, sku: str) -> AsyncIterator[Snapshot]:
        """Open the sale and its orders as of one moment; raises SaleNotFound."""
        async with self._database.reading() as connection:
            sale = await prepare(connection, "sales/snapshot_sale")
            row = _only(await sale.fetch(sku), sku)
            yield Snapshot(record_of(row), _pages(connection, sku))


async def _pages(connection: Connection, sku: str) -> AsyncIterator[list[order_pb2.SaleOrder]]:
    orders = await prepare(connection, "sales/snapshot_orders")
    cursor = await orders.cursor(sku)
    while rows := await cursor.fetch(PAGE_ROWS):
        yield [_order_of(row) for row in rows]


def _only(rows: list[Row], sku: str) -> Row:
    if not rows:
        raise SaleNotFound(metadata={"sku": sku})
    return rows[0]


def _order_of(row: Row) -> order_pb2.SaleOrder:
    return order_pb2.SaleOrder(
        order_no=row["order_no"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        quantity=row["quantity"],
        state=STATES[row["status"]],
        holds_units=row["holds_units"],
        restore_time=timestamp(row["restored_at"]),
    )
