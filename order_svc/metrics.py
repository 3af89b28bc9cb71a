"""Metrics of the order stage."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.telemetry import LATENCY_BUCKETS_S

TRANSITIONS = Counter("seckill_order_transitions_total", "Orders that reached a state.", ["state"])
LATE_PAYMENTS = Counter(
    "seckill_late_payments_total", "Payments that came too late, each counted once."
)
CONSUMED = Counter("seckill_reservations_consumed_total", "Reservations read and dealt with.")
DEAD_LETTERS = Counter(
    "seckill_dead_letters_total", "Messages moved to the dead-letter topic.", ["cause"]
)
EVENTS_SENT = Counter(
    "seckill_order_events_sent_total", "Order events that Kafka has acknowledged.", ["kind"]
)
EVENTS_AGE = Gauge(
    "seckill_order_events_age_seconds", "Age of the oldest order event taken in the last round."
)
CONSUMER_LAG = Gauge(
    "seckill_consumer_lag_messages", "Reservations that wait in this replica's partitions."
)
CONSUMER_RESTARTS = Counter(
    "seckill_consumer_restarts_total", "Kafka clients made anew after a fault or a stall."
)
BATCH_SIZE = Histogram(
    "seckill_order_batch_messages",
    "Reservations in one transaction.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000),
)
INSERT_SECONDS = Histogram(
    "seckill_order_insert_seconds",
    "Time that the database took for a batch.",
    buckets=LATENCY_BUCKETS_S,
)
PROJECTION_FAILURES = Counter(
    "seckill_projection_failures_total", "Orders committed but not written to the projection."
)
