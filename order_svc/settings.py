"""Settings of the order stage."""

from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from order_svc.webhooks.endpoints import Endpoint, parse_endpoints
from seckill.settings import (
    Count,
    KafkaSettings,
    Listen,
    PostgresSettings,
    ProcessSettings,
    RedisSettings,
    Seconds,
)

# In seconds; up to a year.
Days = Annotated[float, Field(gt=0, le=366 * 86_400)]


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
    # Reservations read in a second by this replica; 0 does not limit. For a database that others
    # need, too: what waits stays in Kafka.
    order_rate_max_per_s: Annotated[int, Field(ge=0)] = 0
    # Messages of one batch that the database may refuse, each moved to the dead letters. Where it
    # refuses more, the fault is not in the messages: the batch is repeated until it is healed.
    order_refused_max: Count = 10
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

    # Where subscribers learn what became of orders.
    order_events_topic: str = "seckill.order-events.v1"
    # Events sent in one transaction, and how often the outbox is looked at once it is empty.
    order_events_batch_max: Count = 500
    order_events_interval_s: Seconds = 0.2
    # How long Kafka may take for a batch of events: the transaction that holds them is open, and
    # the database ends it after postgres_timeout_s.
    order_events_timeout_s: Seconds = 3.0

    # Who is told of the same events by HTTP (docs/webhooks.md): a JSON list of
    # {"name", "url", "secret", "events"}; the last is optional. Empty: nobody.
    order_webhook_endpoints: SecretStr = SecretStr("")
    # For each endpoint: requests under way, and how often it is looked what is due.
    order_webhook_concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    order_webhook_interval_s: Seconds = 0.5
    # How long an endpoint may take to answer.
    order_webhook_timeout_s: Seconds = 10.0
    # Deliveries claimed by a replica that died are anybody's after this time. An attempt and the
    # note of it must fit in, else two replicas send the same.
    order_webhook_lease_s: Annotated[Seconds, Field(validate_default=True)] = 30.0
    # Pause after an attempt in vain; doubles up to the second, shortened by up to a half so that
    # not all come at once.
    order_webhook_backoff_min_s: Seconds = 5.0
    order_webhook_backoff_max_s: Seconds = 14_400.0
    # An endpoint that answers 429 or 503 with Retry-After is left alone for that long, but for no
    # longer than this.
    order_webhook_retry_after_max_s: Seconds = 900.0
    # When a delivery becomes a dead letter: after so many attempts (about a day), or at this age.
    order_webhook_attempts_max: Count = 20
    order_webhook_age_max_s: Days = 3 * 86_400.0
    # How long dead letters are kept.
    order_webhook_dead_keep_s: Days = 30 * 86_400.0
    # How often replicas say which endpoints they know, and count; and for how long an endpoint
    # that none of them knows any more is told of events.
    order_webhook_upkeep_interval_s: Seconds = 15.0
    order_webhook_retire_s: Seconds = 600.0
    # Connections to the database of their own: a slow endpoint takes none from the orders.
    order_webhook_connections_max: Count = 4

    # How long the projection keeps an order. A pending one is kept for less: should the write
    # that follows a payment be lost, polling reads the database again after this time.
    order_projection_ttl_s: Seconds = 3_600.0
    order_projection_pending_ttl_s: Seconds = 60.0

    # Longest wait for the consumers before a sale is rebuilt or compared.
    order_await_timeout_s: Seconds = 30.0
    # How often the database is asked whether it keeps what it acknowledges.
    order_configuration_interval_s: Seconds = 30.0

    # A number unknown to the database and younger than this may still be on its way.
    order_arrival_max_s: Seconds = 30.0
    # WatchOrder: how often it looks, how long it lasts, and how many there may be at once.
    order_watch_interval_s: Seconds = 0.5
    order_watch_max_s: Seconds = 900.0
    order_watchers_max: Count = 1_000

    @field_validator("order_webhook_endpoints")
    @classmethod
    def _webhook_endpoints_parse(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        _endpoints(value, profile=info.data.get("profile"))
        return value

    @field_validator("order_webhook_lease_s")
    @classmethod
    def _lease_outlasts_an_attempt(cls, value: float, info: ValidationInfo) -> float:
        timeout_s = info.data.get("order_webhook_timeout_s", 0.0)
        if value < 2 * timeout_s:
            raise ValueError(f"must be at least twice the timeout of {timeout_s:g} s")
        return value

    def webhook_endpoints(self) -> tuple[Endpoint, ...]:
        """Who is told of order events by HTTP."""
        return _endpoints(self.order_webhook_endpoints, profile=self.profile)


def _endpoints(value: SecretStr, *, profile: str | None) -> tuple[Endpoint, ...]:
    return parse_endpoints(value.get_secret_value(), https_only=profile != "development")
