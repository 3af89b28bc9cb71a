"""What the other stages need to load a sale anew, and to compare Redis with the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC

from order_svc.database import Connection, Database, Row
from order_svc.model import STATES, terms_of, timestamp
from order_svc.statements import statement
from seckill.errors import SaleNotFound
from seckill.v1 import order_pb2, sale_pb2

# Rows fetched at once, and orders in one message: about 100 KiB.
PAGE_ROWS = 1_000
SALE_STATES = {
    "open": sale_pb2.SALE_STATE_OPEN,
    "paused": sale_pb2.SALE_STATE_PAUSED,
    "closed": sale_pb2.SALE_STATE_CLOSED,
}
SALE_STATE_NAMES = {state: name for name, state in SALE_STATES.items()}


@dataclass(frozen=True)
class Snapshot:
    """A sale at one moment, and its orders, page by page."""

    sale: order_pb2.SaleRecord
    pages: AsyncIterator[list[order_pb2.SaleOrder]]


class SaleUpkeep:
    """Records, epochs and snapshots. Raises DependencyUnavailable without the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, request: order_pb2.RecordSaleRequest) -> int:
        """Note what operators made of a sale, unless a later change is known.

        Returns:
            The revision on record.

        Raises:
            SaleNotFound: it is not registered.
        """
        rows = await self._database.fetch(
            "record_sale",
            request.sku,
            SALE_STATE_NAMES[request.state],
            request.start_time.ToDatetime(UTC),
            request.end_time.ToDatetime(UTC),
            request.revision,
        )
        return int(_only(rows, request.sku)["revision"])

    async def require(self, sku: str) -> None:
        """Raises SaleNotFound where the sale is not registered."""
        _only(await self._database.fetch("find_sale", sku), sku)

    async def raise_epoch(self, sku: str) -> int:
        """The next epoch of a sale, in force from now on; raises SaleNotFound."""
        return int(_only(await self._database.fetch("raise_epoch", sku), sku)["epoch"])

    @asynccontextmanager
    async def snapshot(self, sku: str) -> AsyncIterator[Snapshot]:
        """The sale and its orders as they are at one moment; raises SaleNotFound."""
        async with self._database.reading() as connection:
            row = _only(await connection.fetch(statement("snapshot_sale"), sku), sku)
            yield Snapshot(_record_of(row), _pages(connection, sku))


async def _pages(connection: Connection, sku: str) -> AsyncIterator[list[order_pb2.SaleOrder]]:
    cursor = await connection.cursor(statement("snapshot_orders"), sku)
    while rows := await cursor.fetch(PAGE_ROWS):
        yield [_order_of(row) for row in rows]


def _only(rows: list[Row], sku: str) -> Row:
    if not rows:
        raise SaleNotFound(metadata={"sku": sku})
    return rows[0]


def _record_of(row: Row) -> order_pb2.SaleRecord:
    return order_pb2.SaleRecord(
        terms=terms_of(row),
        state=SALE_STATES[row["state"]],
        revision=row["revision"],
        epoch=row["epoch"],
        sold_units=row["sold"],
    )


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
