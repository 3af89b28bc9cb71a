"""What rollback_svc counts."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.v1 import rollback_pb2

rounds = Counter("seckill_rollback_rounds_total", "Rounds ended, by result.", ["result"])
round_seconds = Histogram(
    "seckill_rollback_round_seconds",
    "Duration of a round.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
cancelled_orders = Counter(
    "seckill_rollback_cancelled_orders_total",
    "Orders cancelled, or found cancelled or rejected with their units still out.",
)
restored_units = Counter("seckill_rollback_restored_units_total", "Units returned to stock.")
unknown_orders = Counter(
    "seckill_rollback_unknown_orders_total",
    "Entries dropped from the delay set because the database does not know them.",
)
failures = Counter("seckill_rollback_failures_total", "Steps that failed.", ["step"])
last_success = Gauge(
    "seckill_rollback_last_success_timestamp_seconds",
    "Unix time at which the last round without an error ended.",
)
due_orders = Gauge(
    "seckill_delay_due_orders",
    "Entries of the delay set whose time has come and that no replica has claimed.",
)
delayed_orders = Gauge("seckill_delay_orders", "All entries of the delay set.")

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
    rounds.labels(_result)
for _step in STEPS:
    failures.labels(_step)

# What the reconciler has seen when it last compared each sale, repaired or not.
drift_units = Gauge(
    "seckill_reconcile_drift_units",
    "Units that Redis has on sale beyond what there is (too_many), or withholds (too_few).",
    ["direction"],
)
findings = Gauge(
    "seckill_reconcile_findings", "Orders about which Redis and the database differ.", ["kind"]
)
reconciled_sales = Counter(
    "seckill_reconcile_sales_total", "Sales compared by themselves, by result.", ["result"]
)
repairs = Counter("seckill_reconcile_repairs_total", "Findings repaired.")

FINDING_KINDS = {
    rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING: "order_missing",
    rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING: "hold_missing",
    rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED: "hold_ended",
}
for _kind in FINDING_KINDS.values():
    findings.labels(_kind)
for _direction in ("too_many", "too_few"):
    drift_units.labels(_direction)
for _result in ("compared", "skipped"):
    reconciled_sales.labels(_result)
