"""Shows the units of the latest sales by metrics, as the orders in the database have them.

Counted from the orders themselves, not from `sales.sold`: the guard against overselling is checked
by something else than itself.
"""

import asyncio
from collections.abc import Iterable

import structlog

from order_svc import metrics
from order_svc.db.database import Database, Row
from seckill.errors import DependencyUnavailable
from seckill.runtime.clock import Clock

# Of the time of one connection that counting may take.
SHARE_MAX = 0.05
# Of each sale, beside SALE_ORDER_UNITS.
GAUGES = (
    metrics.SALE_UNSOLD_UNITS,
    metrics.SALE_RETURNING_UNITS,
    metrics.SALE_RESTORED_UNITS,
    metrics.SALE_OVERSOLD_UNITS,
)
log = structlog.get_logger()


class SaleGauges:
    """Counts the sales from time to time."""

    def __init__(
        self, database: Database, clock: Clock, *, sales_max: int, interval_s: float
    ) -> None:
        """Describe it; `run` starts it.

        Args:
            sales_max: sales to show; 0 shows none.
            interval_s: pause between counts, at least.
        """
        self._database = database
        self._clock = clock
        self._sales_max = sales_max
        self._interval_s = interval_s
        self._shown: set[str] = set()

    async def run(self) -> None:
        """Count again and again until cancelled; without the database the last values stay."""
        while True:
            started_s = self._clock.monotonic_s()
            if self._sales_max:
                try:
                    await self.run_once()
                except DependencyUnavailable as error:
                    log.info("sales not counted for metrics", error=str(error))
            took_s = self._clock.monotonic_s() - started_s
            await asyncio.sleep(max(self._interval_s, took_s / SHARE_MAX))

    async def run_once(self) -> None:
        """Count once; raises DependencyUnavailable."""
        rows = await self._database.fetch("sales/count_latest_sales", self._sales_max)
        self._show(rows)
        metrics.SALE_COUNTED_TIMESTAMP_SECONDS.set(self._clock.now_s())

    def _show(self, rows: Iterable[Row]) -> None:
        shown = set()
        for row in rows:
            sku = row["sku"]
            shown.add(sku)
            for state in metrics.ORDER_STATES:
                metrics.SALE_ORDER_UNITS.labels(sku, state).set(row[state])
            sold = row["pending"] + row["paid"] + row["written_off"]
            metrics.SALE_UNSOLD_UNITS.labels(sku).set(max(0, row["total"] - sold))
            metrics.SALE_OVERSOLD_UNITS.labels(sku).set(max(0, sold - row["total"]))
            metrics.SALE_RETURNING_UNITS.labels(sku).set(row["returning"])
            metrics.SALE_RESTORED_UNITS.labels(sku).set(row["restored"])
        for sku in self._shown - shown:
            for state in metrics.ORDER_STATES:
                metrics.SALE_ORDER_UNITS.remove(sku, state)
            for gauge in GAUGES:
                gauge.remove(sku)
        self._shown = shown
