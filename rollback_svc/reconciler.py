"""The reconciler: do Redis and the database agree about a sale, order by order?

It reads the holds as they were at one moment, waits until all that Kafka had after that moment is
in the database, and then reads the orders. So a hold without an order has lost it, and an order
without a hold has lost that; what is younger than the pipeline is left out all the same.

By itself, unless a setting forbids it, it writes holds and lowers the counter: that can only sell
less. An operator may have it send reservations to Kafka once more as well, whose cause he has
healed, and put units on sale. Whoever asks it to compare changes nothing unless he says so.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from rollback_svc import metrics
from rollback_svc.books import Books, Holds
from rollback_svc.comparison import (
    HOLD_ENDED,
    HOLD_MISSING,
    Comparison,
    Finding,
    Repair,
    explain,
    explain_stock,
)
from rollback_svc.settings import RollbackSettings
from seckill.clock import Clock
from seckill.errors import PipelineBusy, SeckillError
from seckill.v1 import inventory_pb2, rollback_pb2

# A sale that changed during so many reads in a row changes too quickly.
READS_MAX = 5
FINDINGS_MAX = 1_000
log = structlog.get_logger()


@dataclass
class Report:
    """What one comparison found, and what was repaired."""

    comparison: Comparison
    holds: Holds
    found: Sequence[Finding]
    repaired: frozenset[str] = frozenset()
    stock_repaired: bool = False
    drift_units: int = field(init=False)

    def __post_init__(self) -> None:
        self.drift_units = self.comparison.drift_units(self.found)

    def to_response(self) -> rollback_pb2.ReconcileResponse:
        """As the contract tells it."""
        findings = [
            explain(finding, repaired=finding.hold.order_no in self.repaired)
            for finding in self.found
        ]
        if self.drift_units:
            # First: it is what an operator looks for, and it must not be cut off.
            stock = explain_stock(
                self.drift_units,
                remaining_units=self.holds.summary.remaining_units,
                repaired=self.stock_repaired,
            )
            findings.insert(0, stock)
        return rollback_pb2.ReconcileResponse(
            findings=findings[:FINDINGS_MAX],
            unlisted_findings=max(0, len(findings) - FINDINGS_MAX),
            drift_units=self.drift_units,
        )


class Reconciler:
    """Compares sales: when asked, and all of them every now and then."""

    def __init__(self, books: Books, *, settings: RollbackSettings, clock: Clock) -> None:
        self._books = books
        self._settings = settings
        self._clock = clock
        repairs = settings.rollback_reconcile_repairs
        self._by_itself = Repair.SELL_LESS if repairs else Repair.NOTHING
        # What was seen last of each sale: one that could not be compared since keeps it.
        self._seen: dict[str, Report] = {}

    async def run(self) -> None:
        """Compare all sales every `rollback_reconcile_interval_s`, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.rollback_reconcile_interval_s)
            try:
                await self.run_once()
            except SeckillError as error:
                log.warning("sales not compared", error=str(error))

    async def run_once(self) -> int:
        """Compare all loaded sales, repair toward selling less, and tell by metrics what was seen.

        Returns:
            How many were compared.

        Raises:
            SeckillError: the sales could not be listed.
        """
        timeout_s = self._settings.rollback_reconcile_timeout_s
        sales = await self._books.sales(timeout_s=timeout_s)
        skus = [sale.terms.sku for sale in sales if sale.loaded]
        self._seen = {sku: seen for sku, seen in self._seen.items() if sku in set(skus)}
        compared = 0
        for sku in skus:
            try:
                self._seen[sku] = await self.reconcile(
                    sku, timeout_s=timeout_s, repair=self._by_itself
                )
                compared += 1
            except SeckillError as error:
                log.info("sale not compared", sku=sku, error=str(error))
        metrics.reconciled_sales.labels("compared").inc(compared)
        metrics.reconciled_sales.labels("skipped").inc(len(skus) - compared)
        self._measure()
        return compared

    async def reconcile(
        self, sku: str, *, timeout_s: float, repair: Repair = Repair.NOTHING
    ) -> Report:
        """Compare one sale.

        Args:
            timeout_s: for all of it.
            repair: how far to go about what is found.

        Raises:
            PipelineBusy: reservations are on their way, or the sale changes too quickly.
            Overloaded: it has too many holds to compare.
            SeckillError: as InventoryService and OrderService say, e.g. the sale is not loaded.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        # Before the holds are read: what is settled by then is settled in all that follows.
        now_s = self._clock.now_s()
        holds = await self._consistent_holds(sku, ends_s=ends_s)
        self._require_flow(holds.summary, now_s=now_s)
        await self._books.await_consumed(timeout_s=self._left_s(ends_s))
        age_min_s = self._settings.rollback_reconcile_age_min_s
        comparison = Comparison(sku, holds, now_s=now_s, age_min_s=age_min_s)
        async for orders in self._books.orders(sku, timeout_s=self._left_s(ends_s)):
            comparison.take(orders)
        report = Report(comparison, holds, comparison.finish())
        if repair is not Repair.NOTHING and (report.found or report.drift_units):
            await self._repair(report, repair, timeout_s=self._left_s(ends_s))
        if report.found or report.drift_units:
            log.warning(
                "redis and the database differ",
                sku=sku,
                findings=len(report.found),
                drift_units=report.drift_units,
                repaired=len(report.repaired) + report.stock_repaired,
            )
        return report

    async def _consistent_holds(self, sku: str, *, ends_s: float) -> Holds:
        for _ in range(READS_MAX):
            holds = await self._books.holds(sku, timeout_s=self._left_s(ends_s))
            if holds.summary.consistent:
                return holds
        raise PipelineBusy("the sale changes too quickly to be compared")

    def _require_flow(self, summary: inventory_pb2.HoldsSummary, *, now_s: float) -> None:
        """Raises PipelineBusy where the outbox stands still: what is in it has no order yet."""
        if not summary.outbox_entries:
            return
        age_s = now_s - summary.outbox_oldest_time.ToNanoseconds() / 1e9
        if age_s > self._settings.rollback_reconcile_age_min_s / 2:
            raise PipelineBusy(
                f"{summary.outbox_entries} reservations wait for kafka, for {age_s:.0f} s by now"
            )

    async def _repair(self, report: Report, repair: Repair, *, timeout_s: float) -> None:
        request = report.comparison.repair(report.found, repair)
        response = await self._books.repair(request, timeout_s=timeout_s)
        report.repaired = frozenset(response.order_nos)
        written = sum(h.quantity for h in request.missing if h.order_no in report.repaired)
        released = sum(h.quantity for h in request.ended if h.order_no in report.repaired)
        left = request.surplus_units + written - released + response.stock_change_units
        # As long as a hold is wrong, so is what the counter should say.
        wrong = any(
            finding.kind in {HOLD_MISSING, HOLD_ENDED}
            and finding.hold.order_no not in report.repaired
            for finding in report.found
        )
        report.stock_repaired = left == 0 and not wrong
        metrics.repairs.inc(len(report.repaired) + bool(response.stock_change_units))

    def _left_s(self, ends_s: float) -> float:
        left_s = ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise PipelineBusy("the time to compare the sale is over")
        return left_s

    def _measure(self) -> None:
        drifts = [seen.drift_units for seen in self._seen.values()]
        metrics.drift_units.labels("too_many").set(sum(max(0, drift) for drift in drifts))
        metrics.drift_units.labels("too_few").set(sum(max(0, -drift) for drift in drifts))
        for kind, name in metrics.FINDING_KINDS.items():
            count = sum(f.kind == kind for seen in self._seen.values() for f in seen.found)
            metrics.findings.labels(name).set(count)
