"""Removes shadow sales: what a rehearsal has left in database, delay set and projection."""

from order_svc.db.database import Database
from order_svc.orders.projection import OrderProjection
from seckill.runtime.delay import DelaySet

# Orders removed in one transaction.
CHUNK = 2_000


class ShadowSales:
    """Removes shadow sales. Raises DependencyUnavailable if a store does not answer."""

    def __init__(
        self, database: Database, *, delays: DelaySet, projection: OrderProjection
    ) -> None:
        self._database = database
        self._delays = delays
        self._projection = projection

    async def remove(self, sku: str) -> int:
        """Remove a shadow sale and its orders; return how many orders it had.

        Repeating it removes what is left. Nothing of any other sale is removed.
        """
        removed = 0
        while rows := await self._database.fetch("sales/remove_shadow_orders", sku, CHUNK):
            numbers = [row["order_no"] for row in rows]
            await self._delays.remove(numbers)
            await self._projection.remove(numbers)
            removed += len(numbers)
        await self._database.fetch("sales/remove_shadow_sale", sku)
        return removed
