"""Settings of inventory_svc."""

from typing import Annotated, Literal

from pydantic import Field

from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.settings import (
    Count,
    Listen,
    ProcessSettings,
    SaleMetricsSettings,
    Seconds,
    Target,
)
from seckill.runtime.store_settings import KafkaSettings


class InventorySettings(ProcessSettings, SaleMetricsSettings, ReadSettings, KafkaSettings):
    """Environment variables SECKILL_INVENTORY_… and those of the process, Redis and Kafka."""

    inventory_listen: Listen = "0.0.0.0:50052"
    inventory_metrics_listen: Listen = "0.0.0.0:9102"
    # http2: our own front, which serves attempts and releases itself and passes all other calls on
    # to grpc.aio behind it; grpcio: grpc.aio alone.
    inventory_front: Literal["http2", "grpcio"] = "http2"
    # Address of OrderService, where sales are registered.
    order_target: Target = "dns:///127.0.0.1:50053"
    # Longest wait for OrderService.
    inventory_order_timeout_s: Seconds = 3.0

    # Longest wait of operators for Redis when they pause or close a sale or enable the kill switch,
    # if their deadline allows for it.
    inventory_operator_timeout_s: Seconds = 10.0

    # Runs of reserve.lua and release.lua in flight at once. Redis runs one at a time: a few keep
    # it busy while replies travel. Must leave connections for the relay and the watch.
    inventory_scripts_max: Annotated[int, Field(ge=1, le=64)] = 8
    # Calls that may wait for a run; more are refused at once.
    inventory_waiting_max: Count = 256
    # Reservations in a sale's outbox at which further ones are refused as overload. One takes about
    # 100 bytes of Redis, so a full backlog takes 10 MB.
    inventory_backlog_max: Count = 100_000

    # Replicas of Redis that must have a reservation before it is answered; 0 answers at once. With
    # fewer within the timeout (shorter than SECKILL_REDIS_TIMEOUT_S) it is "unknown, ask again".
    inventory_wait_replicas: Annotated[int, Field(ge=0, le=10)] = 0
    inventory_wait_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 100

    # For how long a confirmation lets Redis promise units; asked for six times as often. After a
    # failover nothing is sold for up to so long (docs/adr/0019).
    inventory_store_lease_s: Annotated[float, Field(ge=0.5, le=60)] = 3.0

    # How long a rebuild may wait for the outbox and the consumers, if the caller's deadline allows
    # for more.
    inventory_rebuild_timeout_s: Seconds = 60.0

    # Whether the settings of Redis and, in production, of Kafka are checked: while they may lose
    # reservations the service is not ready.
    inventory_check_configuration: bool = True
    # How often.
    inventory_configuration_interval_s: Seconds = 60.0

    # Up to 32 sales are read this often, in turn, in case a notice was lost.
    inventory_watch_interval_s: Seconds = 1.0
    # Streams of WatchSales open at once; one for each replica of the gateway.
    inventory_watch_streams_max: Count = 256

    # The relay reads the outboxes that have entries this often; reservations of this replica wake
    # it at once.
    inventory_relay_interval_s: Seconds = 0.1
    # Outboxes that were empty are looked at for what other replicas have left behind: after an
    # interval, then after twice as long each time, up to this.
    inventory_relay_idle_interval_s: Seconds = 30.0
    # How long the relay lets entries gather after a pass: larger record batches, and at half of the
    # load a tenth less CPU a purchase. The first reservation after a pause waits for nothing.
    inventory_relay_linger_s: Annotated[float, Field(ge=0, le=1)] = 0.02
    # Reservations read from all outboxes in one pass, about: they come in batches.
    inventory_relay_entries_max: Annotated[int, Field(ge=64, le=100_000)] = 4_096
    # Reservations in one record batch; each batch goes to the next partition.
    inventory_relay_batch_entries_max: Annotated[int, Field(ge=1, le=10_000)] = 1_024
    # Bytes in one record batch; below message.max.bytes of the broker (1 MiB by default). A batch
    # that the topic refuses as too large is halved.
    inventory_relay_batch_bytes_max: Annotated[int, Field(ge=16_384, le=900_000)] = 524_288
    # What Kafka has not acknowledged after this is sent again, by a new producer.
    inventory_relay_delivery_timeout_s: Seconds = 5.0
    # Entries that a relay has left unfinished for this long are taken over by another. Longer than
    # the delivery timeout, else two living relays send the same entries.
    inventory_relay_claim_idle_s: Seconds = 10.0
    # Waits between failed passes grow from the interval up to this.
    inventory_relay_backoff_max_s: Seconds = 2.0
    # How long the last pass after SIGTERM may take.
    inventory_relay_flush_timeout_s: Seconds = 5.0
