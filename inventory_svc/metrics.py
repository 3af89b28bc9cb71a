"""What inventory_svc counts beside its calls."""

from prometheus_client import Counter, Gauge, Histogram

from seckill.v1 import inventory_pb2

attempts = Counter("seckill_reserve_attempts", "Attempts to reserve, by outcome.", ["outcome"])
batch_items = Histogram(
    "seckill_reserve_batch_items",
    "Attempts decided by one run of the script.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
released_units = Counter("seckill_released_units", "Units given back to stock.")
outbox_depth = Gauge("seckill_outbox_depth", "Reservations that Kafka does not have yet.")
outbox_oldest_age = Gauge(
    "seckill_outbox_oldest_age_seconds", "Age of the oldest reservation that waits for Kafka."
)
relay_entries = Counter(
    "seckill_relay_entries", "Reservations that Kafka has acknowledged to the relay."
)
relay_batch_entries = Histogram(
    "seckill_relay_batch_entries",
    "Reservations in one record batch.",
    buckets=(1, 4, 16, 64, 128, 256, 512, 1024, 2048),
)
relay_claimed = Counter(
    "seckill_relay_claimed_entries", "Entries taken over from a relay that left them unfinished."
)
relay_failures = Counter(
    "seckill_relay_failures", "Passes of the relay that failed, by store.", ["store"]
)
dead_letters = Counter(
    "seckill_relay_dead_letters", "Outbox entries that could not be read, now dead letters."
)
rebuilds = Counter("seckill_sale_rebuilds", "Sales loaded anew from the database.")
unconfirmed_batches = Counter(
    "seckill_reserve_unconfirmed_batches",
    "Batches with reservations that too few replicas of Redis have confirmed in time.",
)
configuration_hidden = Gauge(
    "seckill_configuration_hidden",
    "1 where a store does not let us read the settings that keep its data safe.",
    ["store"],
)
halted = Gauge("seckill_inventory_halted", "1 while the kill switch is on.")
watch_streams = Gauge("seckill_watch_sales_streams", "Open WatchSales streams.")

# The children, looked up once: labels come from the contract's enum only.
attempts_by_outcome = {
    value: attempts.labels(name.removeprefix("PURCHASE_OUTCOME_").lower())
    for name, value in inventory_pb2.PurchaseOutcome.items()
    if value != inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
}
