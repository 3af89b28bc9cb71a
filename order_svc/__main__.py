"""The order service's process: `python -m order_svc`."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import grpc
import structlog

from order_svc.audit.audit import SaleAuditor
from order_svc.db.database import Database, open_database, wait_for_schema
from order_svc.db.durability import unsafe_settings
from order_svc.events.relay import EventRelay
from order_svc.gate.feed import GateRulesFeed
from order_svc.gate.repository import GateRepository
from order_svc.hoarding.buyers import BuyerHistories
from order_svc.hoarding.review import OrderVoids, SaleReviewer
from order_svc.intake.barrier import ConsumerBarrier
from order_svc.intake.batch_processor import BatchProcessor
from order_svc.intake.consumer import OrderConsumer
from order_svc.intake.dead_letter_queue import open_dead_letter_queue
from order_svc.intake.dead_letters import open_dead_letter_writer
from order_svc.intake.delays import DelayWriter
from order_svc.intake.topic_owner import TopicOwner
from order_svc.intake.writer import OrderWriter
from order_svc.orders.projection import OrderProjection
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import OrderRepository
from order_svc.payments.repository import PaymentRepository
from order_svc.preflight import build_preflight
from order_svc.rpc.admin import ADMIN_SERVICE, OrderAdminService
from order_svc.rpc.audit import AuditHandlers
from order_svc.rpc.buyer_history import BUYER_HISTORY_SERVICE, BuyerHistoryService
from order_svc.rpc.dead_letters import DeadLetterHandlers
from order_svc.rpc.gate import GATE_SERVICE, GateRulesService
from order_svc.rpc.operators import SETTING, ClosedGate, Gate, OpenGate
from order_svc.rpc.orders import OrderHandlers
from order_svc.rpc.payments import PaymentHandlers
from order_svc.rpc.recovery import RecoveryHandlers
from order_svc.rpc.restore import RestoreHandlers
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.sale_review import REVIEW_SERVICE, SaleReviewService
from order_svc.rpc.sales import SaleHandlers
from order_svc.rpc.service import SERVICE, OrderService
from order_svc.rpc.stories import StoryHandlers
from order_svc.rpc.webhooks import WebhookHandlers
from order_svc.sales.changes import SaleChanges
from order_svc.sales.gauges import SaleGauges
from order_svc.sales.generation import StoreGeneration
from order_svc.sales.recovery import SaleRecovery
from order_svc.sales.repository import SaleRepository
from order_svc.sales.shadow import ShadowSales
from order_svc.settings import OrderSettings
from order_svc.stories.repository import StoryRepository
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.delivery_admin import DeliveryAdmin
from order_svc.webhooks.dispatcher import EndpointDispatcher, run_dispatchers
from order_svc.webhooks.maintenance import WebhookMaintenance
from order_svc.webhooks.sender import open_sender
from seckill.runtime.clock import Clock, SystemClock
from seckill.runtime.delay import DelaySet
from seckill.runtime.jwks import KeySet
from seckill.runtime.kafka_writer import open_writer
from seckill.runtime.preflight.service import PREFLIGHT_SERVICE
from seckill.runtime.process import HealthCheck, Process, run
from seckill.runtime.redis_client import check_writable, open_redis
from seckill.runtime.redis_reads import open_reads
from seckill.runtime.roles import OPERATOR_ROLE, SERVICE_ROLE, RoleGate
from seckill.runtime.safety import ConfigurationCheck
from seckill.runtime.server import Health, serving
from seckill.v1 import gate_pb2_grpc, hoarding_pb2_grpc, order_admin_pb2_grpc, order_pb2_grpc

if TYPE_CHECKING:
    import redis.asyncio

log = structlog.get_logger()


@dataclass(frozen=True)
class Stores:
    """The stores, open, and the clock."""

    redis: "redis.asyncio.Redis"
    database: Database
    clock: Clock


async def open_stores(settings: OrderSettings, process: Process) -> Stores:
    """Open Redis and the database; return once the database has its schema."""
    redis_client = await process.enter(open_redis(settings))
    database = await process.enter(open_database(settings))
    await wait_for_schema(database, timeout_s=settings.order_schema_timeout_s)
    return Stores(redis_client, database, SystemClock())


async def start_consumer(
    settings: OrderSettings, process: Process, stores: Stores, topics: TopicOwner
) -> None:
    """Turn reservation events into orders from now on, or once the topics are ours."""
    delays = DelayWriter(DelaySet(stores.redis, shards=settings.delay_shards))
    await process.spawn("late delays", delays.run())
    processor = BatchProcessor(
        writer=OrderWriter(stores.database),
        delays=delays,
        projection=OrderProjection(stores.redis, settings),
        dead_letters=await process.enter(open_dead_letter_writer(settings, stores.clock)),
        clock=stores.clock,
        refused_max=settings.order_refused_max,
    )
    consumer = OrderConsumer(settings, processor, stores.clock)
    await process.spawn("consumer", topics.run_when_ours(consumer.run()))


async def start_event_relay(settings: OrderSettings, process: Process, stores: Stores) -> None:
    """Send order events to Kafka from now on."""
    writer = await process.enter(
        open_writer(settings.kafka_cluster(), timeout_s=settings.order_events_timeout_s)
    )
    await process.spawn("event relay", EventRelay(settings, stores.database, writer).run())


async def start_webhooks(settings: OrderSettings, process: Process, stores: Stores) -> None:
    """Register the endpoints before the first event, then deliver events to them."""
    endpoints = settings.webhook_endpoints()
    maintenance = WebhookMaintenance(settings, Deliveries(stores.database), endpoints)
    await maintenance.register()
    await process.spawn("webhook maintenance", maintenance.run())
    if not endpoints:
        return
    own = {"postgres_connections_max": settings.order_webhook_connections_max}
    deliveries = Deliveries(await process.enter(open_database(settings.model_copy(update=own))))
    sender = await process.enter(
        open_sender(stores.clock, timeout_s=settings.order_webhook_timeout_s)
    )
    dispatchers = [
        EndpointDispatcher(
            endpoint=endpoint,
            settings=settings,
            deliveries=deliveries,
            sender=sender,
            clock=stores.clock,
            rng=random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )
        for endpoint in endpoints
    ]
    await process.spawn("webhooks", run_dispatchers(dispatchers))


@dataclass(frozen=True)
class Gates:
    """Who may call.

    Attributes:
        operators: OrderAdminService.
        shop: ConfirmPayment; the shop's services, and operators.
        sales: what changes sales; operators.
    """

    operators: Gate
    shop: Gate
    sales: Gate


async def open_reader(settings: OrderSettings, process: Process, stores: Stores) -> OrderReader:
    """Return what reads orders for callers, and keeps the projection in step from now on."""
    reads = await process.enter(open_reads(stores.redis, settings))
    projection = OrderProjection(stores.redis, settings, reads)
    reader = OrderReader(OrderRepository(stores.database), projection)
    await process.spawn("outdated orders", reader.run())
    return reader


def build_service(
    settings: OrderSettings,
    stores: Stores,
    *,
    reader: OrderReader,
    payments: PaymentHandlers,
    changes: SaleChangeHandlers,
    shop: Gate,
    operators: Gate,
) -> OrderService:
    """Return what buyers, the shop and the other services call."""
    orders = OrderRepository(stores.database)
    return OrderService(
        sales=SaleHandlers(
            SaleRepository(stores.database),
            ShadowSales(
                stores.database,
                delays=DelaySet(stores.redis, shards=settings.delay_shards),
                projection=OrderProjection(stores.redis, settings),
            ),
            operators=operators,
        ),
        orders=OrderHandlers(settings=settings, orders=orders, reader=reader, clock=stores.clock),
        shop=shop,
        payments=payments,
        restore=RestoreHandlers(orders, reader),
        recovery=RecoveryHandlers(
            SaleRecovery(stores.database),
            StoreGeneration(stores.database),
            ConsumerBarrier(settings),
            timeout_s=settings.order_await_timeout_s,
        ),
        changes=changes,
    )


async def start_sale_gauges(settings: OrderSettings, process: Process, stores: Stores) -> None:
    """Show the units of the latest sales by metrics from now on."""
    gauges = SaleGauges(
        stores.database,
        stores.clock,
        sales_max=settings.sale_metrics_max,
        interval_s=settings.order_sale_metrics_interval_s,
    )
    await process.spawn("sale gauges", gauges.run())


def build_payments(settings: OrderSettings, stores: Stores, reader: OrderReader) -> PaymentHandlers:
    """Return the handlers of payments, which both services use."""
    return PaymentHandlers(
        settings=settings,
        payments=PaymentRepository(stores.database),
        reader=reader,
        clock=stores.clock,
    )


async def build_admin_service(
    settings: OrderSettings,
    process: Process,
    stores: Stores,
    *,
    payments: PaymentHandlers,
    changes: SaleChangeHandlers,
    operators: Gate,
) -> OrderAdminService:
    """Return what operators call."""
    auditor = SaleAuditor(stores.database, orders_max=settings.order_audit_orders_max)
    queue = await process.enter(open_dead_letter_queue(settings, stores.clock))
    return OrderAdminService(
        gate=operators,
        audit=AuditHandlers(auditor),
        dead_letters=DeadLetterHandlers(queue),
        webhooks=WebhookHandlers(DeliveryAdmin(stores.database)),
        payments=payments,
        changes=changes,
        stories=StoryHandlers(StoryRepository(stores.database), queue),
    )


async def open_gate_rules(
    settings: OrderSettings, process: Process, stores: Stores, operators: Gate
) -> GateRulesService:
    """Return the rules of the gate, which are read from now on."""
    feed = GateRulesFeed(
        stores.database,
        interval_s=settings.order_gate_interval_s,
        stale_s=settings.order_gate_stale_s,
        streams_max=settings.order_gate_streams_max,
    )
    await process.spawn("gate rules", feed.run())
    rules = GateRepository(
        stores.database,
        entries_max=settings.order_gate_entries_max,
        user_agents_max=settings.order_gate_user_agents_max,
        policies_max=settings.order_gate_policies_max,
    )
    return GateRulesService(rules, feed, operators=operators)


async def open_histories(
    settings: OrderSettings, process: Process, stores: Stores
) -> BuyerHistoryService:
    """Return what gateways ask about buyers; old sightings are forgotten from now on."""
    histories = BuyerHistories(stores.database)
    kept = timedelta(days=settings.order_sightings_kept_days)
    await process.spawn("sightings", histories.keep_pruned(kept=kept))
    return BuyerHistoryService(histories)


def build_review(
    settings: OrderSettings, stores: Stores, *, reader: OrderReader, operators: Gate
) -> SaleReviewService:
    """Return what operators call after a sale."""
    reviewer = SaleReviewer(stores.database, orders_max=settings.order_audit_orders_max)
    return SaleReviewService(reviewer, OrderVoids(stores.database), reader, operators=operators)


async def open_gates(settings: OrderSettings, process: Process) -> Gates:
    """Return who decides by tokens who may call; keys are reloaded from now on."""
    development = settings.profile == "development"
    if not settings.order_operator_jwks:
        without_keys: Gate = OpenGate() if development else ClosedGate()
        return Gates(operators=ClosedGate(), shop=without_keys, sales=without_keys)
    keys = KeySet(
        settings.order_operator_jwks,
        allow_symmetric=development,
        reload_interval_s=settings.order_operator_jwks_reload_s,
    )
    try:
        await keys.load()
    except ValueError as error:
        # Buyers can do without operators: the service starts, and admits them once it has keys.
        log.error("operator keys not loaded", error=str(error))  # noqa: TRY400 - no trace needed
    await process.spawn("operator keys", keys.keep_loaded())

    def gate(*roles: str) -> RoleGate:
        return RoleGate(
            keys,
            *roles,
            issuer=settings.order_operator_jwt_issuer,
            audience=settings.order_operator_jwt_audience,
            setting=SETTING,
        )

    operators = gate(OPERATOR_ROLE)
    return Gates(operators, shop=gate(SERVICE_ROLE, OPERATOR_ROLE), sales=operators)


async def start_checks(
    settings: OrderSettings, process: Process, stores: Stores, topics: TopicOwner
) -> Mapping[str, HealthCheck]:
    """Start to look at the stores' configuration; returns the checks that readiness needs."""
    durability = ConfigurationCheck(
        "postgres",
        lambda: unsafe_settings(stores.database),
        interval_s=settings.order_configuration_interval_s,
    )
    await process.spawn("durability", durability.run())
    ownership = ConfigurationCheck(
        "kafka_topics", topics.claim, interval_s=settings.order_configuration_interval_s
    )
    await process.spawn("topic claims", ownership.run())
    return {
        "postgres": stores.database.check_writable,
        "redis": partial(check_writable, stores.redis),
        "durability": durability.check,
        "kafka_topics": ownership.check,
    }


async def serve(settings: OrderSettings, process: Process) -> None:
    """Open everything, consume and serve until stopped."""
    stores = await open_stores(settings, process)
    await start_webhooks(settings, process, stores)
    topics = TopicOwner(settings, stores.database)
    await start_consumer(settings, process, stores, topics)
    await start_event_relay(settings, process, stores)
    await start_sale_gauges(settings, process, stores)
    gates = await open_gates(settings, process)
    reader = await open_reader(settings, process, stores)
    payments = build_payments(settings, stores, reader)
    changes = SaleChangeHandlers(SaleChanges(stores.database), operators=gates.sales)
    service = build_service(
        settings,
        stores,
        reader=reader,
        payments=payments,
        changes=changes,
        shop=gates.shop,
        operators=gates.sales,
    )
    admin = await build_admin_service(
        settings, process, stores, payments=payments, changes=changes, operators=gates.operators
    )
    rules = await open_gate_rules(settings, process, stores, gates.operators)
    histories = await open_histories(settings, process, stores)
    review = build_review(settings, stores, reader=reader, operators=gates.operators)
    checks = await start_checks(settings, process, stores, topics)
    preflight = build_preflight(
        settings, stores.database, operators=gates.operators, readiness_checks=checks
    )

    def register(server: grpc.aio.Server) -> None:
        order_pb2_grpc.add_OrderServiceServicer_to_server(service, server)
        order_admin_pb2_grpc.add_OrderAdminServiceServicer_to_server(admin, server)
        gate_pb2_grpc.add_GateRulesServiceServicer_to_server(rules, server)

        hoarding_pb2_grpc.add_BuyerHistoryServiceServicer_to_server(histories, server)
        hoarding_pb2_grpc.add_SaleReviewServiceServicer_to_server(review, server)
        preflight.register(server)

    services = [
        *(SERVICE, ADMIN_SERVICE, GATE_SERVICE, BUYER_HISTORY_SERVICE, REVIEW_SERVICE),
        PREFLIGHT_SERVICE,
    ]
    health = Health(services)
    port = await process.enter(
        serving(
            settings.order_listen,
            register,
            settings=settings,
            health_state=health,
            services=services,
        )
    )
    log.info("serving", port=port)
    await process.until_stopped(health, checks)


if __name__ == "__main__":
    run("order", OrderSettings, serve)
