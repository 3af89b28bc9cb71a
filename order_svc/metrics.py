"""Metrics of the order service."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.runtime.telemetry import LATENCY_BUCKETS_S, BatchHistogram
from seckill.v1 import payment_pb2

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
CONSUMER_LAG_SECONDS = Gauge(
    "seckill_consumer_lag_seconds",
    "Age at most of the oldest reservation event that waits in this replica's partitions.",
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
ORDER_INSERT_SECONDS = BatchHistogram(
    "seckill_order_insert_seconds",
    "Time that the database took for a batch.",
    buckets=LATENCY_BUCKETS_S,
)
DATABASE_CONNECTION_WAIT_SECONDS = Histogram(
    "seckill_database_connection_wait_seconds",
    "How long a call waited for a connection of the pool.",
    buckets=LATENCY_BUCKETS_S,
)
DATABASE_CONNECTION_HOLD_SECONDS = Histogram(
    "seckill_database_connection_hold_seconds",
    "How long a call kept a connection of the pool: its rate is the connections in use.",
    buckets=LATENCY_BUCKETS_S,
)
DELAY_FAILURES_TOTAL = Counter(
    "seckill_delay_failures_total",
    "Orders committed but not added to the delay set with their batch; they are added later.",
)
PROJECTION_FAILURES_TOTAL = Counter(
    "seckill_projection_failures_total", "Orders committed but not written to the projection."
)
PROJECTION_OUTDATED_ORDERS = Gauge(
    "seckill_projection_outdated_orders",
    "Changed orders of which the projection may say what was so before; the database answers.",
)
PROJECTION_OUTDATED_AGE_SECONDS = Gauge(
    "seckill_projection_outdated_age_seconds",
    "For how long the projection has been wrong about the oldest of these orders; 0 without one.",
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
SALE_ORDER_UNITS = Gauge(
    "seckill_sale_order_units",
    "Units in a sale's orders, by the state of the orders.",
    ["sku", "state"],
)
SALE_UNSOLD_UNITS = Gauge(
    "seckill_sale_unsold_units",
    "Units of a sale that are in no live order and not written off.",
    ["sku"],
)
SALE_RETURNING_UNITS = Gauge(
    "seckill_sale_returning_units",
    "Units of a sale's ended orders that are not back in stock yet.",
    ["sku"],
)
SALE_RESTORED_UNITS = Gauge(
    "seckill_sale_restored_units", "Units of a sale's ended orders that are back in stock.", ["sku"]
)
SALE_OVERSOLD_UNITS = Gauge(
    "seckill_sale_oversold_units",
    "Units in a sale's live orders or written off beyond its total, counted order by order. Must be"
    " 0.",
    ["sku"],
)
SALE_COUNTED_TIMESTAMP_SECONDS = Gauge(
    "seckill_sale_counted_timestamp_seconds", "Unix time at which the sales were counted last."
)

ORDER_STATES = ("pending", "paid", "cancelled", "rejected", "refunded")
# Every series is there from the start, so that the first one of a kind is an increase.
for _state in ORDER_STATES:
    ORDER_TRANSITIONS_TOTAL.labels(_state)
for _reason, _number in payment_pb2.PaymentReason.items():
    if _number:
        PAYMENTS_TOTAL.labels("to_refund", _reason.removeprefix("PAYMENT_REASON_").lower())
for _cause in ("undecodable", "unreadable", "unknown_sku", "refused"):
    DEAD_LETTERS_TOTAL.labels(_cause)
