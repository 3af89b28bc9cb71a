"""Metrics of inventory_svc beside those of its calls."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.v1 import inventory_pb2

INVENTORY_CONNECTIONS_COUNT = Gauge(
    "seckill_inventory_connections_count", "Connections of callers to the http2 front."
)
INVENTORY_CONNECTIONS_CLOSED_TOTAL = Counter(
    "seckill_inventory_connections_closed_total",
    "Connections of the http2 front that were closed by us, or asked to end.",
    ("reason",),
)
RESERVE_ATTEMPTS_TOTAL = Counter(
    "seckill_reserve_attempts_total", "Attempts to reserve, by outcome.", ["outcome"]
)
RESERVE_BATCH_ITEMS = Histogram(
    "seckill_reserve_batch_items",
    "Attempts decided by one run of reserve.lua.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
RESERVE_UNCONFIRMED_BATCHES_TOTAL = Counter(
    "seckill_reserve_unconfirmed_batches_total",
    "Batches with reservations that too few replicas of Redis have confirmed in time.",
)
RELEASED_UNITS_TOTAL = Counter("seckill_released_units_total", "Units given back to stock.")
BUCKET_TRANSFERS_TOTAL = Counter(
    "seckill_bucket_transfers_total", "Transfers of units between buckets of a sale."
)
BUCKET_TRANSFERRED_UNITS_TOTAL = Counter(
    "seckill_bucket_transferred_units_total", "Units that were transferred between buckets."
)
OUTBOX_DEPTH = Gauge("seckill_outbox_depth", "Reservations that Kafka does not have yet.")
OUTBOX_OLDEST_AGE_SECONDS = Gauge(
    "seckill_outbox_oldest_age_seconds", "Age of the oldest reservation that waits for Kafka."
)
RELAY_ENTRIES_TOTAL = Counter(
    "seckill_relay_entries_total", "Reservations that Kafka has acknowledged to the relay."
)
RELAY_BATCH_ENTRIES = Histogram(
    "seckill_relay_batch_entries",
    "Reservations in one record batch.",
    buckets=(1, 4, 16, 64, 128, 256, 512, 1024, 2048),
)
RELAY_CLAIMED_ENTRIES_TOTAL = Counter(
    "seckill_relay_claimed_entries_total",
    "Outbox entries taken over from a relay that left them unfinished.",
)
RELAY_FAILURES_TOTAL = Counter(
    "seckill_relay_failures_total", "Failed writes of the relay, by store.", ["store"]
)
RELAY_DEAD_LETTERS_TOTAL = Counter(
    "seckill_relay_dead_letters_total", "Reservations that could not be sent, now dead letters."
)
SALE_REBUILDS_TOTAL = Counter("seckill_sale_rebuilds_total", "Sales rebuilt from the database.")
CONFIGURATION_HIDDEN = Gauge(
    "seckill_configuration_hidden",
    "1 if a store does not let us read the settings that keep its data safe.",
    ["store"],
)
STORE_GENERATION = Gauge(
    "seckill_store_generation", "Generation of the Redis primary that was last confirmed."
)
STORE_FENCED = Gauge(
    "seckill_store_fenced", "1 while this Redis may not promise units: stale, or not confirmed."
)
INVENTORY_HALTED = Gauge("seckill_inventory_halted", "1 while the kill switch is on.")
SALE_TOTAL_UNITS = Gauge("seckill_sale_total_units", "Units of a sale, as Redis has it.", ["sku"])
SALE_REMAINING_UNITS = Gauge(
    "seckill_sale_remaining_units", "Units of a sale that can be reserved now.", ["sku"]
)
SALE_HELD_UNITS = Gauge(
    "seckill_sale_held_units",
    "Units of a sale that buyers hold in Redis: of live orders, and of reservations on their way.",
    ["sku"],
)
SALE_SELLING = Gauge(
    "seckill_sale_selling",
    "1 while a sale is open and inside its window, sold out or not.",
    ["sku"],
)
SALE_PAYMENT_WINDOW_SECONDS = Gauge(
    "seckill_sale_payment_window_seconds", "How long buyers of a sale may take to pay.", ["sku"]
)
WATCH_SALES_STREAMS = Gauge("seckill_watch_sales_streams", "Open WatchSales streams.")

# The children, looked up once: labels come from the contract's enum only.
ATTEMPTS_BY_OUTCOME = {
    value: RESERVE_ATTEMPTS_TOTAL.labels(name.removeprefix("PURCHASE_OUTCOME_").lower())
    for name, value in inventory_pb2.PurchaseOutcome.items()
    if value != inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
}
