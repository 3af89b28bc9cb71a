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
WEBHOOK_ATTEMPTS = Counter(
    "seckill_webhook_attempts_total",
    "Attempts to deliver, by what came of them: delivered, refused, unanswered.",
    ["endpoint", "result"],
)
WEBHOOK_SECONDS = Histogram(
    "seckill_webhook_seconds",
    "Time that an endpoint took to answer, or was given.",
    ["endpoint"],
    buckets=LATENCY_BUCKETS_S,
)
WEBHOOK_DEAD = Counter(
    "seckill_webhook_given_up_total", "Deliveries that became dead letters.", ["endpoint"]
)
WEBHOOK_WAITING = Gauge(
    "seckill_webhook_waiting", "Deliveries that the endpoint has not got yet.", ["endpoint"]
)
WEBHOOK_AGE = Gauge(
    "seckill_webhook_oldest_age_seconds",
    "Age of the oldest event that the endpoint has not got; 0 where it has all.",
    ["endpoint"],
)
WEBHOOK_DEAD_LETTERS = Gauge(
    "seckill_webhook_dead_letters", "Dead letters that nobody has settled.", ["endpoint"]
)
