"""Sales in the database."""

from order_svc.database import Database, Row
from order_svc.model import sale_columns
from seckill.errors import SaleExists, SaleNotFound
from seckill.v1 import sale_pb2


class SaleRepository:
    """Sales. Raises DependencyUnavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, terms: sale_pb2.SaleTerms) -> tuple[Row, bool]:
        """Make a sale known.

        Returns:
            Its row of find_sale.sql, and whether this call registered it.

        Raises:
            SaleExists: the sku is taken by a sale with other terms.
        """
        columns = sale_columns(terms)
        created = await self._database.fetch("register_sale", *columns.values())
        sale = (await self._database.fetch("find_sale", terms.sku))[0]
        if any(sale[column] != value for column, value in columns.items()):
            raise SaleExists
        return sale, bool(created)

    async def totals(self, sku: str) -> Row:
        """Its row of count_sale.sql; raises SaleNotFound."""
        rows = await self._database.fetch("count_sale", sku)
        if not rows:
            raise SaleNotFound
        return rows[0]
