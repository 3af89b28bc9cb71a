"""Sales in the database."""

from order_svc.db.database import Database, Row
from order_svc.sales.model import sale_columns
from seckill.errors import SaleExists, SaleNotFound, SaleStateConflict
from seckill.v1 import sale_pb2

# Columns that find_sale.sql has as registered, too.
CHANGEABLE = ("title", "total", "unit_price_minor", "currency")
# Columns of check_settled.sql: what must be none.
LEFT = {
    "pending_orders": "orders are pending",
    "unrestored_orders": "orders have units that are not back in Redis",
    "unsent_events": "order events are not in Kafka",
    "open_deliveries": "webhooks are not delivered",
}


class SaleRepository:
    """The table of sales. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, terms: sale_pb2.SaleTerms) -> tuple[Row, bool]:
        """Register a sale.

        Returns:
            Its row of find_sale.sql, and whether this call registered it.

        Raises:
            SaleExists: the sku is taken by a sale with other terms.
        """
        columns = sale_columns(terms)
        created = await self._database.fetch("sales/register_sale", *columns.values())
        sale = (await self._database.fetch("sales/find_sale", terms.sku))[0]
        # Some terms may have been changed since: the same call again means those registered.
        registered = {column: sale[column] for column in columns}
        registered |= {column: sale[f"registered_{column}"] for column in CHANGEABLE}
        if registered != columns:
            raise SaleExists
        return sale, bool(created)

    async def totals(self, sku: str) -> Row:
        """Return the row of count_sale.sql; raises SaleNotFound."""
        rows = await self._database.fetch("sales/count_sale", sku)
        if not rows:
            raise SaleNotFound
        return rows[0]

    async def unpaid(self, sku: str) -> Row:
        """Return the row of count_unpaid.sql."""
        return (await self._database.fetch("sales/count_unpaid", sku))[0]

    async def reasons_not_to_archive(self, sku: str) -> list[str]:
        """Return what is left to do for a sale, in words; raises SaleNotFound."""
        rows = await self._database.fetch("sales/check_settled", sku)
        if not rows:
            raise SaleNotFound
        row = rows[0]
        reasons = [] if row["state"] == "closed" else [f"it is on record as {row['state']}"]
        return reasons + [f"{row[column]:,} {what}" for column, what in LEFT.items() if row[column]]

    async def archive(self, sku: str) -> bool:
        """Put a closed sale on record as archived; return whether it was not so before.

        Raises SaleNotFound, and SaleStateConflict if it is not closed on record.
        """
        if await self._database.fetch("sales/archive_sale", sku):
            return True
        rows = await self._database.fetch("sales/snapshot_sale", sku)
        if not rows:
            raise SaleNotFound
        if rows[0]["archived_at"] is None:
            raise SaleStateConflict("only a closed sale is archived")
        return False
