"""Settings of the order stage."""

from seckill.settings import (
    Count,
    KafkaSettings,
    Listen,
    PostgresSettings,
    ProcessSettings,
    RedisSettings,
    Seconds,
)


class OrderSettings(ProcessSettings, RedisSettings, KafkaSettings, PostgresSettings):
    """Environment variables of `python -m order_svc`."""

    order_listen: Listen = "0.0.0.0:50053"
    order_metrics_listen: Listen = "0.0.0.0:9103"
    # How long to wait at start for a database that is up and migrated.
    order_schema_timeout_s: Seconds = 30.0
    # How often a transaction is repeated after a deadlock before the caller is told.
    order_conflict_retries_max: Count = 5

    # Replicas of the stage share the partitions of this group.
    order_consumer_group: str = "order_svc"
    # Reservations written in one transaction: it holds the sale's lock, so it must stay short.
    order_batch_max: Count = 1_000
    # How long a poll waits for the first message.
    order_poll_timeout_s: Seconds = 0.5
    # Pause after a store was found away; doubles up to the second.
    order_backoff_min_s: Seconds = 0.1
    order_backoff_max_s: Seconds = 5.0
    # How often the lag is measured, and how long Kafka may take to answer anything.
    order_lag_interval_s: Seconds = 5.0
    order_kafka_timeout_s: Seconds = 10.0
    # A client that has fallen behind and read nothing for so long is made anew.
    order_stall_timeout_s: Seconds = 30.0

    # How long the projection keeps an order. A pending one is kept for less: should the write
    # that follows a payment be lost, polling reads the database again after this time.
    order_projection_ttl_s: Seconds = 3_600.0
    order_projection_pending_ttl_s: Seconds = 60.0

    # A number unknown to the database and younger than this may still be on its way.
    order_arrival_max_s: Seconds = 30.0
    # WatchOrder: how often it looks, how long it lasts, and how many there may be at once.
    order_watch_interval_s: Seconds = 0.5
    order_watch_max_s: Seconds = 900.0
    order_watchers_max: Count = 1_000
