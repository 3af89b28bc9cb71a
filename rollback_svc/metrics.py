"""What rollback_svc counts."""

from prometheus_client import Counter, Gauge, Histogram

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
due_orders = Gauge("seckill_delay_due_orders", "Entries of the delay set whose time has come.")
delayed_orders = Gauge("seckill_delay_orders", "All entries of the delay set.")

RESULTS = ("ok", "failed")
STEPS = (
    "read_due",
    "cancel_expired",
    "release",
    "mark_restored",
    "put_off",
    "remove",
    "list_expired",
    "list_unrestored",
    "count",
)
# Every series is there from the start, so that a rate over the first failure is right.
for _result in RESULTS:
    rounds.labels(_result)
for _step in STEPS:
    failures.labels(_step)
