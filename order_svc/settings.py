"""Settings of the order service."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from order_svc.payments.settings import PaymentSettings
from order_svc.webhooks.settings import WebhookSettings
from seckill.runtime.jwks import is_url, parse_jwks
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.settings import (
    ArrivalSettings,
    Count,
    Listen,
    SaleMetricsSettings,
    Seconds,
    read_file,
)
from seckill.runtime.store_settings import KafkaSettings


class OrderSettings(
    WebhookSettings,
    PaymentSettings,
    ArrivalSettings,
    SaleMetricsSettings,
    ReadSettings,
    KafkaSettings,
):
    """Environment variables of `python -m order_svc`."""

    order_listen: Listen = "0.0.0.0:50053"
    order_metrics_listen: Listen = "0.0.0.0:9103"

    # Replicas of the service share the partitions of this group.
    order_consumer_group: str = "order_svc"
    # Reservation events in one transaction: it holds the sale's lock, so it must stay short.
    order_batch_max: Count = 1_000
    # Reservation events read in a second by this replica; 0 does not limit. For a database that
    # other programs need, too: what waits stays in Kafka.
    order_rate_max_per_s: Annotated[int, Field(ge=0)] = 0
    # Messages of one batch that the database may refuse, each moved to the dead letters. If it
    # refuses more, the fault is not in the messages: the batch is repeated until it succeeds.
    order_refused_max: Count = 10
    # How long a poll waits for the first message.
    order_poll_timeout_s: Seconds = 0.5
    # How often the lag is measured, and how long Kafka may take to answer anything.
    order_lag_interval_s: Seconds = 1.0
    order_kafka_timeout_s: Seconds = 10.0
    # A client that has fallen behind and read nothing for so long is recreated.
    order_stall_timeout_s: Seconds = 30.0

    # Where subscribers learn what became of orders.
    order_events_topic: str = "seckill.order-events.v1"
    # Events sent in one transaction, and how often the outbox is read once it is empty.
    order_events_batch_max: Count = 500
    order_events_interval_s: Seconds = 0.2
    # How long Kafka may take for a batch of events: the transaction that holds them is open, and
    # the database ends it after postgres_timeout_s.
    order_events_timeout_s: Seconds = 3.0

    # How long the projection keeps an order. A pending one is kept for less: if the write that
    # follows a payment is lost, polling reads the database again after this time.
    order_projection_ttl_s: Seconds = 3_600.0
    order_projection_pending_ttl_s: Seconds = 60.0

    # Longest wait for the consumers before a sale is rebuilt or compared.
    order_await_timeout_s: Seconds = 30.0
    # How often the database is asked whether it keeps what it acknowledges.
    order_configuration_interval_s: Seconds = 30.0

    # How often the units of the latest sales are counted for metrics. While counting takes long it
    # is done less often: it has a connection for a twentieth of the time.
    order_sale_metrics_interval_s: Seconds = 1.0

    # WatchOrder: how often it looks, how long it lasts, and how many there may be at once.
    order_watch_interval_s: Seconds = 0.5
    order_watch_max_s: Seconds = 900.0
    order_watchers_max: Count = 1_000

    # Who may call OrderAdminService and ConfirmPayment: the keys that sign the tokens of operators
    # and of the shop's services (path or http(s) URL of a JWKS document), and what the tokens must
    # name. Empty: every such call is refused, but for ConfirmPayment in the development profile.
    order_operator_jwks: str = ""
    order_operator_jwt_issuer: Annotated[str, Field(validate_default=True)] = ""
    order_operator_jwt_audience: Annotated[str, Field(min_length=1)] = "seckill"
    order_operator_jwks_reload_s: Seconds = 300.0
    # Orders of the largest sale that AuditSale replays; it needs about half a kilobyte for each.
    order_audit_orders_max: Count = 200_000

    # The rules of the gate: how often their revision is read, and how long it may not be readable
    # before gateways are sent to another replica.
    order_gate_interval_s: Annotated[float, Field(gt=0, le=1)] = 0.3
    order_gate_stale_s: Seconds = 3.0
    # Gateways that watch the rules at once.
    order_gate_streams_max: Count = 1_000
    # Entries of both lists together, about a kilobyte each in every gateway; of these, entries that
    # name user agents, each a comparison for every call.
    order_gate_entries_max: Annotated[int, Field(gt=0, le=100_000)] = 10_000
    order_gate_user_agents_max: Annotated[int, Field(gt=0, le=256)] = 64
    # Sales with a policy.
    order_gate_policies_max: Annotated[int, Field(gt=0, le=100_000)] = 10_000
    # How long it stays on record from where orders were reserved: keyed hashes of addresses and
    # payment fingerprints, as gateways send them.
    order_sightings_kept_days: Annotated[float, Field(gt=0, le=400)] = 30.0

    @field_validator("order_operator_jwks")
    @classmethod
    def _operator_jwks_parses(cls, value: str, info: ValidationInfo) -> str:
        # A URL is read when the process starts, by the same rule.
        if value and not is_url(value):
            development = info.data.get("profile") == "development"
            parse_jwks(read_file(value), allow_symmetric=development)
        return value

    @field_validator("order_operator_jwt_issuer")
    @classmethod
    def _operators_have_an_issuer(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("order_operator_jwks") and not value:
            raise ValueError("is required with SECKILL_ORDER_OPERATOR_JWKS")
        return value
