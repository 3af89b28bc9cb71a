"""Metrics of rollback_svc beside those of its calls."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from seckill.v1 import rollback_pb2

ROLLBACK_ROUNDS_TOTAL = Counter(
    "seckill_rollback_rounds_total", "Rounds ended, by result.", ["result"]
)
ROLLBACK_ROUND_SECONDS = Histogram(
    "seckill_rollback_round_seconds",
    "Duration of a round.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
ROLLBACK_CANCELLED_ORDERS_TOTAL = Counter(
    "seckill_rollback_cancelled_orders_total",
    "Orders cancelled, or found cancelled or rejected with their units still out.",
)
ROLLBACK_RESTORED_UNITS_TOTAL = Counter(
    "seckill_rollback_restored_units_total", "Units returned to stock."
)
ROLLBACK_UNKNOWN_ORDERS_TOTAL = Counter(
    "seckill_rollback_unknown_orders_total",
    "Entries dropped from the delay set because the database does not know them.",
)
ROLLBACK_FAILURES_TOTAL = Counter("seckill_rollback_failures_total", "Steps that failed.", ["step"])
ROLLBACK_LAST_SUCCESS_TIMESTAMP_SECONDS = Gauge(
    "seckill_rollback_last_success_timestamp_seconds",
    "Unix time at which the last round without an error ended.",
)
DELAY_DUE_ORDERS = Gauge(
    "seckill_delay_due_orders",
    "Entries of the delay set whose time has come and that no replica has claimed.",
)
DELAY_ORDERS = Gauge("seckill_delay_orders", "All entries of the delay set.")

RESULTS = ("ok", "failed")
STEPS = (
    "claim_due",
    "cancel_expired",
    "release",
    "mark_restored",
    "put_off",
    "remove",
    "list_expired",
    "claim_unrestored",
    "count",
)
# Every series is there from the start, so that a rate over the first failure is right.
for _result in RESULTS:
    ROLLBACK_ROUNDS_TOTAL.labels(_result)
for _step in STEPS:
    ROLLBACK_FAILURES_TOTAL.labels(_step)

# What the reconciler has seen when it last compared each sale, repaired or not.
RECONCILE_DRIFT_UNITS = Gauge(
    "seckill_reconcile_drift_units",
    "Units that Redis has on sale beyond what there is (too_many), or withholds (too_few).",
    ["direction"],
)
SALE_DRIFT_UNITS = Gauge(
    "seckill_sale_drift_units",
    "Units of a sale that Redis has on sale beyond what there is, or withholds (negative), as last"
    " compared.",
    ["sku"],
)
RECONCILE_FINDINGS = Gauge(
    "seckill_reconcile_findings", "Orders about which Redis and the database differ.", ["kind"]
)
RECONCILE_UNREPAIRED_FINDINGS = Gauge(
    "seckill_reconcile_unrepaired_findings",
    "Findings that the last comparison did not repair: above 0 for several rounds an operator has"
    " to look. Of kind stock: sales whose counter is wrong.",
    ["kind"],
)
RECONCILE_SALES_TOTAL = Counter(
    "seckill_reconcile_sales_total",
    "Sales compared by themselves, by result; selling: without the counter, as it kept changing.",
    ["result"],
)
LOST_SALES_COUNT = Gauge(
    "seckill_lost_sales_count",
    "Sales on record that may sell and that Redis has lost: an operator has to rebuild them.",
)
RECONCILE_REPAIRS_TOTAL = Counter(
    "seckill_reconcile_repairs_total", "Findings repaired, by an operator's word too.", ["kind"]
)

RECONCILE_RESULTS = ("compared", "selling", "skipped")
FINDING_KINDS = {
    rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING: "order_missing",
    rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING: "hold_missing",
    rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED: "hold_ended",
    rollback_pb2.RECONCILE_FINDING_KIND_DELAY_ENDED: "delay_ended",
    rollback_pb2.RECONCILE_FINDING_KIND_STOCK: "stock",
}
for _kind in FINDING_KINDS.values():
    RECONCILE_UNREPAIRED_FINDINGS.labels(_kind)
    RECONCILE_REPAIRS_TOTAL.labels(_kind)
    if _kind != "stock":
        RECONCILE_FINDINGS.labels(_kind)
for _direction in ("too_many", "too_few"):
    RECONCILE_DRIFT_UNITS.labels(_direction)
for _result in RECONCILE_RESULTS:
    RECONCILE_SALES_TOTAL.labels(_result)


def show_drifts(drifts: Mapping[str, int], *, sales_max: int) -> None:
    """Show up to `sales_max` sales one by one, those with the largest drift first."""
    SALE_DRIFT_UNITS.clear()
    for sku in sorted(drifts, key=lambda sku: (-abs(drifts[sku]), sku))[:sales_max]:
        SALE_DRIFT_UNITS.labels(sku).set(drifts[sku])
