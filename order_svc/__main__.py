"""`python -m order_svc`: open the stores, start what runs, serve."""

import random
from collections.abc import Mapping
from functools import partial

import grpc
import structlog

from order_svc.db.database import open_database, wait_for_schema
from order_svc.db.durability import unsafe_settings
from order_svc.events.relay import EventRelay
from order_svc.intake.batch_processor import BatchProcessor
from order_svc.intake.consumer import OrderConsumer
from order_svc.intake.dead_letters import open_dead_letter_writer
from order_svc.intake.delays import DelayWriter
from order_svc.intake.topic_owner import TopicOwner
from order_svc.intake.writer import OrderWriter
from order_svc.orders.projection import OrderProjection
from order_svc.preflight import build_preflight
from order_svc.rpc.admin import ADMIN_SERVICE
from order_svc.rpc.buyer_history import BUYER_HISTORY_SERVICE
from order_svc.rpc.gate import GATE_SERVICE
from order_svc.rpc.sale_changes import SaleChangeHandlers
from order_svc.rpc.sale_review import REVIEW_SERVICE
from order_svc.rpc.service import SERVICE
from order_svc.sales.changes import SaleChanges
from order_svc.sales.gauges import SaleGauges
from order_svc.settings import OrderSettings
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.dispatcher import EndpointDispatcher, run_dispatchers
from order_svc.webhooks.maintenance import WebhookMaintenance
from order_svc.webhooks.sender import open_sender
from order_svc.wiring import (
    Stores,
    build_admin_service,
    build_payments,
    build_review,
    build_service,
    open_gate_rules,
    open_gates,
    open_histories,
    open_reader,
)
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import DelaySet
from seckill.runtime.kafka_writer import open_writer
from seckill.runtime.preflight.service import PREFLIGHT_SERVICE
from seckill.runtime.process import HealthCheck, Process, run
from seckill.runtime.redis_client import check_writable, open_redis
from seckill.runtime.safety import ConfigurationCheck
from seckill.runtime.server import Health, serving
from seckill.v1 import gate_pb2_grpc, hoarding_pb2_grpc, order_admin_pb2_grpc, order_pb2_grpc

log = structlog.get_logger()


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


async def start_sale_gauges(settings: OrderSettings, process: Process, stores: Stores) -> None:
    """Show the units of the latest sales by metrics from now on."""
    gauges = SaleGauges(
        stores.database,
        stores.clock,
        sales_max=settings.sale_metrics_max,
        interval_s=settings.order_sale_metrics_interval_s,
    )
    await process.spawn("sale gauges", gauges.run())


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
