"""The order stage's process: `python -m order_svc`."""

import random

import structlog

from order_svc.board import OrderBoard
from order_svc.consumer import OrderConsumer
from order_svc.database import Database, open_database, wait_for_schema
from order_svc.dead_letters import open_dead_letters
from order_svc.durability import unsafe_settings
from order_svc.event_relay import EventRelay
from order_svc.intake import OrderIntake
from order_svc.kafka_writer import open_writer
from order_svc.pipeline import Pipeline
from order_svc.projection import OrderProjection
from order_svc.repository import OrderRepository
from order_svc.sales import SaleRepository
from order_svc.service import SERVICE
from order_svc.settings import OrderSettings
from order_svc.upkeep import SaleUpkeep
from order_svc.upkeep_service import UpkeepServicer
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.lane import WebhookLane, run_lanes
from order_svc.webhooks.sender import open_sender
from order_svc.webhooks.upkeep import WebhookUpkeep
from order_svc.work import BatchWork
from seckill.clock import Clock, SystemClock
from seckill.delay import DelaySet
from seckill.process import Process, run
from seckill.redis_client import open_redis, redis_faults
from seckill.safety import ConfigurationCheck
from seckill.server import Health, serving
from seckill.v1 import order_pb2_grpc

log = structlog.get_logger()


async def serve(settings: OrderSettings, process: Process) -> None:
    """Open everything, consume and serve until stopped."""
    clock = SystemClock()
    redis = await process.enter(open_redis(settings))
    database = await process.enter(open_database(settings))
    await wait_for_schema(database, timeout_s=settings.order_schema_timeout_s)
    dead_letters = await process.enter(open_dead_letters(settings, clock))
    projection = OrderProjection(redis, settings)
    orders = OrderRepository(database)
    work = BatchWork(
        intake=OrderIntake(database),
        delays=DelaySet(redis),
        projection=projection,
        dead_letters=dead_letters,
        clock=clock,
        refused_max=settings.order_refused_max,
    )
    await deliver_webhooks(settings, process, database, clock)
    await process.spawn("consumer", OrderConsumer(settings, work, clock).run())
    writer = await process.enter(
        open_writer(settings.kafka_bootstrap, timeout_s=settings.order_events_timeout_s)
    )
    await process.spawn("event relay", EventRelay(settings, database, writer).run())
    servicer = UpkeepServicer(
        settings=settings,
        sales=SaleRepository(database),
        orders=orders,
        board=OrderBoard(orders, projection),
        clock=clock,
        upkeep=SaleUpkeep(database),
        pipeline=Pipeline(settings),
    )
    health = Health([SERVICE])
    port = await process.enter(
        serving(
            settings.order_listen,
            lambda server: order_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server),
            settings=settings,
            health_state=health,
            services=[SERVICE],
        )
    )
    log.info("serving", port=port)

    async def redis_answers() -> None:
        with redis_faults():
            await redis.ping()

    durability = ConfigurationCheck(
        "postgres",
        lambda: unsafe_settings(database),
        interval_s=settings.order_configuration_interval_s,
    )
    await process.spawn("durability", durability.run())
    await process.until_stopped(
        health,
        {"postgres": database.ping, "redis": redis_answers, "durability": durability.check},
    )


async def deliver_webhooks(
    settings: OrderSettings, process: Process, database: Database, clock: Clock
) -> None:
    """Have events queued for the endpoints before the first one happens, then deliver."""
    endpoints = settings.webhook_endpoints()
    upkeep = WebhookUpkeep(settings, Deliveries(database), endpoints)
    await upkeep.name()
    await process.spawn("webhook upkeep", upkeep.run())
    if not endpoints:
        return
    own = {"postgres_connections_max": settings.order_webhook_connections_max}
    deliveries = Deliveries(await process.enter(open_database(settings.model_copy(update=own))))
    sender = await process.enter(open_sender(clock, timeout_s=settings.order_webhook_timeout_s))
    lanes = [
        WebhookLane(
            endpoint=endpoint,
            settings=settings,
            deliveries=deliveries,
            sender=sender,
            clock=clock,
            rng=random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )
        for endpoint in endpoints
    ]
    await process.spawn("webhooks", run_lanes(lanes))


if __name__ == "__main__":
    run("order", OrderSettings, serve)
