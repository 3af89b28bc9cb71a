"""The parts of the service, put together by hand."""

import os
import random
import socket
import uuid
from dataclasses import dataclass
from functools import partial

import redis.asyncio

from inventory_svc import metrics
from inventory_svc.buckets.borrower import Borrower
from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.repair import Repairer
from inventory_svc.buckets.standing import Standings
from inventory_svc.buckets.stock import BucketedStock
from inventory_svc.buckets.transfers import Transfers
from inventory_svc.fence.discarded import DiscardedSales
from inventory_svc.fence.fence import CONFIRMATIONS, StoreFence
from inventory_svc.fence.lease import StoreLease
from inventory_svc.fence.shards import ClusterFence, ShardLeases
from inventory_svc.fence.store import StoreKeeper
from inventory_svc.outbox.relay import Relay
from inventory_svc.outbox.sender import EntrySender
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.outbox.topic_owner import TopicOwner
from inventory_svc.outbox.unreadable import UnreadableEntries
from inventory_svc.rpc.attempts import AttemptHandlers
from inventory_svc.rpc.holds import HoldHandlers
from inventory_svc.rpc.known_sales import KnownSales
from inventory_svc.rpc.sale_changes import SaleChangeHandlers
from inventory_svc.rpc.sales import SaleHandlers
from inventory_svc.rpc.service import InventoryService
from inventory_svc.sales.gauges import SaleGauges
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.looks import SaleLooks
from inventory_svc.sales.rebuild import Rebuilder
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.sales.sync import SaleSync
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.settings import InventorySettings
from inventory_svc.stock.holds import HoldsReader
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.scripts import Confirmation
from inventory_svc.stock.stock import Stock
from inventory_svc.stock.stories import BuyerStories
from seckill.runtime.clock import SystemClock
from seckill.runtime.kafka_writer import KafkaWriter
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_reads import PrimaryReads
from seckill.v1 import order_pb2_grpc


@dataclass(frozen=True, slots=True)
class Connections:
    """What most parts are built on."""

    settings: InventorySettings
    redis: "redis.asyncio.Redis"
    registry: SaleRegistry
    clock: SystemClock
    layouts: Layouts
    lease: StoreLease | ShardLeases
    # For questions about the store; known to the type checker only.
    confirmations: "order_pb2_grpc.OrderServiceAsyncStub"

    @property
    def confirm(self) -> Confirmation:
        """What replicas of Redis must have before a write counts."""
        return Confirmation(
            replicas=self.settings.inventory_wait_replicas,
            timeout_ms=self.settings.inventory_wait_timeout_ms,
        )


def build_stock(connections: Connections, borrower: Borrower) -> BucketedStock:
    """Stock, which decides every purchase."""
    settings = connections.settings
    stock = Stock(
        connections.redis,
        clock=connections.clock,
        rng=random.SystemRandom(),
        scripts_max=settings.inventory_scripts_max,
        waiting_max=settings.inventory_waiting_max,
        backlog_max=settings.inventory_backlog_max,
        confirm=connections.confirm,
        guard=connections.lease,
    )
    return BucketedStock(
        stock, layouts=connections.layouts, borrower=borrower, clock=connections.clock
    )


def build_borrower(connections: Connections) -> Borrower:
    """What moves units between the buckets of a sale."""
    transfers = Transfers(
        connections.redis,
        confirm=connections.confirm,
        guard=connections.lease,
        redis_timeout_s=connections.settings.redis_timeout_s,
    )
    return Borrower(Standings(connections.redis), transfers)


def build_streams(connections: Connections) -> OutboxStreams:
    """The outboxes as this process reads them."""
    settings = connections.settings
    return OutboxStreams(
        connections.redis,
        # Never the name of a process that died: its entries are taken over when idle.
        consumer=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        entries_max=settings.inventory_relay_entries_max,
        claim_idle_s=settings.inventory_relay_claim_idle_s,
        confirm=connections.confirm,
        layouts=connections.layouts,
    )


def build_relay(
    connections: Connections,
    owner: TopicOwner,
    *,
    streams: OutboxStreams,
    sales: Sales,
    holds: HoldsReader,
) -> Relay:
    """The relay, with its Kafka writer; connected once there is something to send."""
    settings = connections.settings
    writer = KafkaWriter(
        settings.kafka_cluster(),
        timeout_s=settings.inventory_relay_delivery_timeout_s,
        batch_records_max=settings.inventory_relay_batch_entries_max,
        batch_bytes_max=settings.inventory_relay_batch_bytes_max,
        on_failure=metrics.RELAY_FAILURES_TOTAL.labels("kafka").inc,
    )
    clock = connections.clock
    unreadable = UnreadableEntries(
        sales=sales, holds=holds, streams=streams, registry=connections.registry
    )
    sender = EntrySender(streams, writer, unreadable, owner, settings=settings, clock=clock)
    return Relay(streams, sender, settings=settings, clock=clock)


def build_watch(connections: Connections, *, sales: Sales, kill_switch: KillSwitch) -> SalesWatch:
    """The watch that tells gateways of sales and of the kill switch."""
    settings = connections.settings
    return SalesWatch(
        connections.redis,
        sales,
        kill_switch,
        clock=connections.clock,
        interval_s=settings.inventory_watch_interval_s,
        first_timeout_s=settings.redis_timeout_s,
        streams_max=settings.inventory_watch_streams_max,
        gauges=SaleGauges(sales_max=settings.sale_metrics_max),
    )


def build_fence(connections: Connections, discarded: DiscardedSales) -> StoreFence | ClusterFence:
    """The fence, which decides whether this Redis may promise units."""
    client, lease = connections.redis, connections.lease
    if isinstance(client, ClusterRedis) and isinstance(lease, ShardLeases):
        return ClusterFence(
            client,
            connections.confirmations,
            lease,
            discarded,
            clock=connections.clock,
            lease_s=connections.settings.inventory_store_lease_s,
        )
    assert isinstance(lease, StoreLease)  # noqa: S101 - open_connections makes them alike
    return StoreFence(
        StoreKeeper(client),
        connections.confirmations,
        lease,
        discarded,
        clock=connections.clock,
        lease_s=connections.settings.inventory_store_lease_s,
    )


def build_discarded(connections: Connections, rebuilder: Rebuilder) -> DiscardedSales:
    """What rebuilds sales whose data was stale."""
    settings = connections.settings
    return DiscardedSales(
        partial(rebuilder.rebuild, timeout_s=settings.inventory_rebuild_timeout_s),
        wait_min_s=settings.inventory_store_lease_s / CONFIRMATIONS,
    )


def build_changes(
    connections: Connections, *, sales: Sales, watch: SalesWatch, known: KnownSales
) -> SaleChangeHandlers:
    """What operators change a sale with."""
    sync = SaleSync(
        connections.redis,
        sales=sales,
        registry=connections.registry,
        layouts=connections.layouts,
        redis_timeout_s=connections.settings.redis_timeout_s,
    )
    return SaleChangeHandlers(
        sales=sales,
        sync=sync,
        watch=watch,
        registry=connections.registry,
        known=known,
        settings=connections.settings,
    )


@dataclass(frozen=True, slots=True)
class Inventory:
    """All parts of the service."""

    service: InventoryService
    attempts: AttemptHandlers
    relay: Relay
    watch: SalesWatch
    fence: StoreFence | ClusterFence
    discarded: DiscardedSales
    topics: TopicOwner
    kill_switch: KillSwitch


def build_inventory(connections: Connections, reads: PrimaryReads) -> Inventory:
    """The service and what runs beside it; `reads`: what answers looks before the primary does."""
    client, layouts = connections.redis, connections.layouts
    sales, holds = Sales(client, layouts), HoldsReader(client, layouts)
    borrower = build_borrower(connections)
    loader = SaleLoader(client, guard=connections.lease)
    kill_switch = KillSwitch(client, confirm=connections.confirm)
    watch = build_watch(connections, sales=sales, kill_switch=kill_switch)
    streams = build_streams(connections)
    owner = TopicOwner(connections.settings, client)
    relay = build_relay(connections, owner, streams=streams, sales=sales, holds=holds)
    rebuilder = Rebuilder(
        sales=sales,
        loader=loader,
        streams=streams,
        relay=relay,
        registry=connections.registry,
        layouts=layouts,
        clock=connections.clock,
        redis_timeout_s=connections.settings.redis_timeout_s,
    )
    known = KnownSales(
        sales=sales,
        watch=watch,
        registry=connections.registry,
        order_timeout_s=connections.settings.inventory_order_timeout_s,
    )
    attempts = AttemptHandlers(
        stock=build_stock(connections, borrower),
        relay=relay,
        watch=watch,
        known=known,
        redis_timeout_s=connections.settings.redis_timeout_s,
    )
    service = InventoryService(
        attempts=attempts,
        sales=SaleHandlers(
            sales=sales,
            looks=SaleLooks(sales, reads),
            rebuilder=rebuilder,
            watch=watch,
            registry=connections.registry,
            layouts=layouts,
            known=known,
            settings=connections.settings,
        ),
        changes=build_changes(connections, sales=sales, watch=watch, known=known),
        holds=HoldHandlers(
            holds=holds,
            stories=BuyerStories(client, streams, layouts),
            repairer=Repairer(client, loader=loader, layouts=layouts, borrower=borrower),
            sales=sales,
            relay=relay,
            known=known,
            redis_timeout_s=connections.settings.redis_timeout_s,
        ),
        kill_switch=kill_switch,
        watch=watch,
        clock=connections.clock,
        operator_timeout_s=connections.settings.inventory_operator_timeout_s,
    )
    discarded = build_discarded(connections, rebuilder)
    fence = build_fence(connections, discarded)
    return Inventory(service, attempts, relay, watch, fence, discarded, owner, kill_switch)
