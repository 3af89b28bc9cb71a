"""Metrics of the order service."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.runtime.telemetry import LATENCY_BUCKETS_S

ORDER_TRANSITIONS_TOTAL = Counter(
    "seckill_order_transitions_total", "Orders that reached a state.", ["state"]
)
PAYMENTS_TOTAL = Counter(
    "seckill_payments_total",
    "Payments that reached a state, by why they paid no order; none: they paid one.",
    ["state", "reason"],
)
RESERVATIONS_CONSUMED_TOTAL = Counter(
    "seckill_reservations_consumed_total", "Reservation events read and processed."
)
DEAD_LETTERS_TOTAL = Counter(
    "seckill_dead_letters_total", "Messages moved to the dead-letter topic.", ["cause"]
)
ORDER_EVENTS_SENT_TOTAL = Counter(
    "seckill_order_events_sent_total", "Order events that Kafka has acknowledged.", ["kind"]
)
ORDER_EVENTS_AGE_SECONDS = Gauge(
    "seckill_order_events_age_seconds", "Age of the oldest order event taken in the last round."
)
CONSUMER_LAG_MESSAGES = Gauge(
    "seckill_consumer_lag_messages", "Reservation events that wait in this replica's partitions."
)
CONSUMER_RESTARTS_TOTAL = Counter(
    "seckill_consumer_restarts_total", "Kafka consumers recreated after a fault or a stall."
)
CONSUMER_LOG_CUTS_TOTAL = Counter(
    "seckill_consumer_log_cuts_total",
    "Partitions that lacked messages read before, and were read again from their start.",
)
ORDER_BATCH_MESSAGES = Histogram(
    "seckill_order_batch_messages",
    "Reservation events in one transaction.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000),
)
ORDER_INSERT_SECONDS = Histogram(
    "seckill_order_insert_seconds",
    "Time that the database took for a batch.",
    buckets=LATENCY_BUCKETS_S,
)
DELAY_FAILURES_TOTAL = Counter(
    "seckill_delay_failures_total",
    "Orders committed but not added to the delay set with their batch; they are added later.",
)
PROJECTION_FAILURES_TOTAL = Counter(
    "seckill_projection_failures_total", "Orders committed but not written to the projection."
)
WEBHOOK_ATTEMPTS_TOTAL = Counter(
    "seckill_webhook_attempts_total",
    "Attempts to deliver, by result: delivered, refused, unanswered.",
    ["endpoint", "result"],
)
WEBHOOK_SECONDS = Histogram(
    "seckill_webhook_seconds",
    "Time that an endpoint took to answer, or was given.",
    ["endpoint"],
    buckets=LATENCY_BUCKETS_S,
)
WEBHOOK_GIVEN_UP_TOTAL = Counter(
    "seckill_webhook_given_up_total", "Deliveries that became dead letters.", ["endpoint"]
)
WEBHOOK_WAITING = Gauge(
    "seckill_webhook_waiting", "Deliveries that the endpoint has not received yet.", ["endpoint"]
)
WEBHOOK_OLDEST_AGE_SECONDS = Gauge(
    "seckill_webhook_oldest_age_seconds",
    "Age of the oldest event that the endpoint has not received; 0 if it has received all.",
    ["endpoint"],
)
WEBHOOK_DEAD_LETTERS = Gauge(
    "seckill_webhook_dead_letters", "Dead letters that are not settled.", ["endpoint"]
)
GATE_RULES_REVISION = Gauge(
    "seckill_gate_rules_revision", "Revision of the gate's rules that this replica has read."
)
GATE_CHANGES_TOTAL = Counter(
    "seckill_gate_changes_total", "Changes of the gate's rules made through this replica."
)
