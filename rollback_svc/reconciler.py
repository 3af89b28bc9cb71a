"""The reconciler: compares what Redis and the database have of a sale, order by order.

It reads the holds as they were at one moment, waits until all that Kafka had after that moment is
in the database, and then reads the orders. So a hold without an order has lost it, and an order
without a hold has lost that; what is younger than the pipeline is left out all the same. A sale
that never stands still is compared order by order, too, but its counter is not.

By itself, unless settings forbid it, it repairs what an order accounts for: it writes holds, sends
reservations to Kafka once more, releases holds whose orders have ended, and lowers the counter. The
database caps all of that. Units that come from nowhere are put on sale only when an operator says
so. A comparison alone changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from rollback_svc import metrics
from rollback_svc.comparison import (
    DELAY_ENDED,
    ORDER_MISSING,
    STOCK,
    Comparison,
    Finding,
    Repair,
)
from rollback_svc.reconcile_source import Holds, ReconcileSource
from rollback_svc.report import Report
from rollback_svc.resends import Resends
from rollback_svc.settings import RollbackSettings
from seckill.errors import ConsumersLagging, SeckillError
from seckill.runtime.clock import Clock
from seckill.runtime.delay import DelaySet
from seckill.v1 import inventory_pb2

# A sale that changed during so many reads in a row goes on selling.
READS_MAX = 5
LOGGED_SKUS_MAX = 20
log = structlog.get_logger()


@dataclass
class Allowance:
    """How much may still be repaired, of all sales together."""

    left: int


class Reconciler:
    """Compares one sale when asked, and all of them every interval."""

    def __init__(
        self,
        source: ReconcileSource,
        *,
        delay: DelaySet,
        settings: RollbackSettings,
        clock: Clock,
    ) -> None:
        self._source = source
        self._delay = delay
        self._settings = settings
        self._clock = clock
        self._by_itself = _by_itself(settings)
        self._resends = Resends(
            pause_s=settings.rollback_reconcile_age_min_s,
            times_max=settings.rollback_reconcile_sends_max,
        )
        # What was seen last of each sale: one that could not be compared since keeps it.
        self._seen: dict[str, Report] = {}
        # Units that its counter had too many when that was compared last.
        self._drifts: dict[str, int] = {}

    async def run(self) -> None:
        """Compare all sales every `rollback_reconcile_interval_s`, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.rollback_reconcile_interval_s)
            try:
                await self.run_once()
            except SeckillError as error:
                log.warning("sales not compared", error=str(error))

    async def run_once(self) -> int:
        """Compare all loaded sales, repair what orders account for, and tell by metrics.

        Returns:
            How many were compared, with or without their counters.

        Raises:
            SeckillError: the sales could not be listed.
        """
        timeout_s = self._settings.rollback_reconcile_timeout_s
        await self._look_for_lost_sales()
        sales = await self._source.sales(timeout_s=timeout_s)
        skus = [sale.terms.sku for sale in sales if sale.loaded]
        self._forget_all_but(set(skus))
        allowance = Allowance(self._settings.rollback_reconcile_repairs_max)
        results: Counter[str] = Counter()
        reports: list[Report] = []
        for sku in skus:
            try:
                report = await self._reconcile(
                    sku,
                    timeout_s=timeout_s,
                    repair=self._by_itself,
                    allowance=allowance,
                )
            except SeckillError as error:
                log.info("sale not compared", sku=sku, error=str(error))
                results["skipped"] += 1
            else:
                results["compared" if report.exact else "selling"] += 1
                reports.append(report)
                self._note(sku, report)
        for result, count in results.items():
            metrics.RECONCILE_SALES_TOTAL.labels(result).inc(count)
        self._measure()
        log.info(
            "sales compared",
            **{result: results[result] for result in metrics.RECONCILE_RESULTS},
            findings=sum(report.findings for report in reports),
            repaired=sum(report.repairs for report in reports),
        )
        return len(reports)

    async def _look_for_lost_sales(self) -> None:
        """Count them; to load them is an operator's word, as is all that puts units on sale."""
        timeout_s = self._settings.rollback_reconcile_timeout_s
        try:
            lost = await self._source.lost_sales(timeout_s=timeout_s)
        except SeckillError as error:
            log.info("sales not looked for in redis", error=str(error))
            return
        metrics.LOST_SALES_COUNT.set(len(lost))
        if lost:
            log.warning("redis has lost sales", count=len(lost), skus=lost[:LOGGED_SKUS_MAX])

    async def reconcile(
        self, sku: str, *, timeout_s: float, repair: Repair = Repair.NOTHING
    ) -> Report:
        """Compare one sale, its counter too.

        Args:
            timeout_s: for all of it.
            repair: what may be done about what is found.

        Raises:
            ConsumersLagging: reservations are on their way, or the sale changes too quickly.
            Overloaded: it has too many holds to compare.
            SeckillError: as InventoryService and OrderService say, e.g. the sale is not loaded.
        """
        allowance = Allowance(self._settings.rollback_reconcile_repairs_max)
        return await self._reconcile(
            sku, timeout_s=timeout_s, repair=repair, allowance=allowance, exact=True
        )

    async def _reconcile(
        self,
        sku: str,
        *,
        timeout_s: float,
        repair: Repair,
        allowance: Allowance,
        exact: bool = False,
    ) -> Report:
        """Compare one sale; `exact`: refuse to if its counter cannot be compared.

        What was sent again a moment ago, or too often, is sent only if `exact`: an operator's word.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        # Before the holds are read: what is settled by then is settled in all that follows.
        now_s = self._clock.now_s()
        if repair:
            await self._source.sync(sku, timeout_s=self._left_s(ends_s))
        holds = await self._holds(sku, ends_s=ends_s, exact=exact)
        self._require_flow(holds.summary, now_s=now_s)
        await self._source.await_consumed(timeout_s=self._left_s(ends_s))
        age_min_s = self._settings.rollback_reconcile_age_min_s
        comparison = Comparison(sku, holds, now_s=now_s, age_min_s=age_min_s)
        async for orders in self._source.orders(sku, timeout_s=self._left_s(ends_s)):
            comparison.take(orders)
            delayed = await self._delay.those_in(comparison.ended(orders))
            comparison.take_delayed(orders, delayed)
        report = Report(comparison, holds, comparison.finish())
        missing = {one.hold.order_no for one in report.found if one.kind == ORDER_MISSING}
        self._resends.keep(sku, missing)
        if repair is not Repair.NOTHING and report.findings:
            chosen = report.found if exact else [f for f in report.found if self._is_due(sku, f)]
            await self._repair(sku, report, chosen, repair, allowance=allowance, ends_s=ends_s)
        if report.findings:
            log.warning(
                "redis and the database differ",
                sku=sku,
                findings=report.findings,
                drift_units=report.drift_units,
                repaired=report.repairs,
            )
        return report

    async def _holds(self, sku: str, *, ends_s: float, exact: bool) -> Holds:
        for _ in range(READS_MAX):
            holds = await self._source.holds(sku, timeout_s=self._left_s(ends_s))
            if holds.summary.consistent:
                break
        else:
            if exact:
                raise ConsumersLagging("the sale changes too quickly to be compared")
        return holds

    def _require_flow(self, summary: inventory_pb2.HoldsSummary, *, now_s: float) -> None:
        """Raise ConsumersLagging if the outbox stands still: its entries have no order yet."""
        if not summary.outbox_entries:
            return
        age_s = now_s - summary.outbox_oldest_time.ToNanoseconds() / 1e9
        if age_s > self._settings.rollback_reconcile_age_min_s / 2:
            raise ConsumersLagging(
                f"{summary.outbox_entries} reservations wait for kafka, for {age_s:.0f} s by now"
            )

    def _is_due(self, sku: str, finding: Finding) -> bool:
        now_s = self._clock.monotonic_s()
        return finding.kind != ORDER_MISSING or self._resends.is_due(
            sku, finding.hold.order_no, now_s=now_s
        )

    async def _repair(
        self,
        sku: str,
        report: Report,
        found: Sequence[Finding],
        repair: Repair,
        *,
        allowance: Allowance,
        ends_s: float,
    ) -> None:
        """Repair what was found, as far as `repair` and `allowance` go, and count it."""
        if Repair.RELEASE in repair:
            ended = [f.hold.order_no for f in found if f.kind == DELAY_ENDED][: allowance.left]
            await self._delay.remove(ended)
            report.undelayed = set(ended)
            allowance.left -= len(ended)
            metrics.RECONCILE_REPAIRS_TOTAL.labels("delay_ended").inc(len(ended))
        repairs_made = 0
        while True:
            request = report.comparison.repair(
                found, repair, limit=allowance.left, repairs_made=repairs_made
            )
            if not _changes_anything(request):
                return
            response = await self._source.repair(request, timeout_s=self._left_s(ends_s))
            report.take(request, response)
            allowance.left -= len(response.order_nos)
            repairs_made += bool(response.order_nos or response.stock_change_units)
            self._count_repaired(sku, request, response)
            # A sale may have lost more reservations than fit into one request.
            asked = {hold.order_no for hold in request.unsent}
            found = [f for f in found if f.hold.order_no not in asked]
            repair &= Repair.SEND_AGAIN

    def _count_repaired(
        self,
        sku: str,
        request: inventory_pb2.RepairHoldsRequest,
        response: inventory_pb2.RepairHoldsResponse,
    ) -> None:
        """Count what was repaired, and remember what was sent again."""
        done = set(response.order_nos)
        sent = [hold.order_no for hold in request.unsent if hold.order_no in done]
        self._resends.note(sku, sent, now_s=self._clock.monotonic_s())
        counts = {
            "order_missing": len(sent),
            "hold_missing": sum(hold.order_no in done for hold in request.missing),
            "hold_ended": sum(hold.order_no in done for hold in request.ended),
            "stock": int(response.stock_change_units != 0),
        }
        for name, count in counts.items():
            metrics.RECONCILE_REPAIRS_TOTAL.labels(name).inc(count)

    def _left_s(self, ends_s: float) -> float:
        left_s = ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise ConsumersLagging("the time to compare the sale is over")
        return left_s

    def _forget_all_but(self, skus: set[str]) -> None:
        self._seen = {sku: seen for sku, seen in self._seen.items() if sku in skus}
        self._drifts = {sku: drift for sku, drift in self._drifts.items() if sku in skus}
        self._resends.keep_sales(skus)

    def _note(self, sku: str, report: Report) -> None:
        self._seen[sku] = report
        if report.exact:
            self._drifts[sku] = report.drift_units

    def _measure(self) -> None:
        seen, drifts = self._seen.values(), self._drifts.values()
        metrics.RECONCILE_DRIFT_UNITS.labels("too_many").set(sum(max(0, drift) for drift in drifts))
        metrics.RECONCILE_DRIFT_UNITS.labels("too_few").set(sum(max(0, -drift) for drift in drifts))
        metrics.show_drifts(self._drifts, sales_max=self._settings.sale_metrics_max)
        found = Counter(finding.kind for report in seen for finding in report.found)
        left = Counter(kind for report in seen for kind in report.unrepaired())
        for kind, name in metrics.FINDING_KINDS.items():
            if kind != STOCK:
                metrics.RECONCILE_FINDINGS.labels(name).set(found[kind])
            metrics.RECONCILE_UNREPAIRED_FINDINGS.labels(name).set(left[kind])


def _by_itself(settings: RollbackSettings) -> Repair:
    """Return what is repaired without an operator's word."""
    repair = Repair.ACCOUNTED
    if not settings.rollback_reconcile_sends:
        repair &= ~Repair.SEND_AGAIN
    if not settings.rollback_reconcile_releases:
        repair &= ~Repair.RELEASE
    return repair if settings.rollback_reconcile_repairs else Repair.NOTHING


def _changes_anything(request: inventory_pb2.RepairHoldsRequest) -> bool:
    """Whether the repair writes, sends or releases a hold, or moves the counter."""
    moves_stock = request.surplus_units > 0 or (request.restock and request.surplus_units < 0)
    return bool(request.missing or request.unsent or request.ended) or moves_stock
