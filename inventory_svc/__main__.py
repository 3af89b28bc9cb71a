"""Wires inventory_svc and runs it: `python -m inventory_svc`."""

import os
import random
import socket
import uuid

import structlog

from inventory_svc.durability import configuration_checks
from inventory_svc.holds import HoldsReader
from inventory_svc.kill_switch import KillSwitch
from inventory_svc.producer import OrdersProducer
from inventory_svc.rebuild import Rebuilder
from inventory_svc.registry import ORDER_SERVICE, READS, SaleRegistry
from inventory_svc.relay import Relay
from inventory_svc.sales import Sales
from inventory_svc.scripts import Confirmation
from inventory_svc.service import InventoryService
from inventory_svc.settings import InventorySettings
from inventory_svc.stock import Stock
from inventory_svc.streams import OutboxStreams
from inventory_svc.unreadable import UnreadableEntries
from inventory_svc.upkeep import StockUpkeep
from inventory_svc.watch import SalesWatch
from seckill.channel import open_channel
from seckill.clock import SystemClock
from seckill.process import Process, run
from seckill.redis_client import open_redis
from seckill.server import Health, serving
from seckill.v1 import inventory_pb2_grpc, order_pb2_grpc

SERVICES = ("seckill.v1.InventoryService",)
log = structlog.get_logger()


async def serve(settings: InventorySettings, process: Process) -> None:
    """Open the stores, start the relay and the watch, serve until stopped."""
    clock = SystemClock()
    redis = await process.enter(open_redis(settings))
    orders = await process.enter(
        open_channel(settings.order_target, service=ORDER_SERVICE, reads=READS)
    )
    confirm = Confirmation(
        replicas=settings.inventory_wait_replicas,
        timeout_ms=settings.inventory_wait_timeout_ms,
    )
    stock = Stock(
        redis,
        clock=clock,
        rng=random.SystemRandom(),
        scripts_max=settings.inventory_scripts_max,
        waiting_max=settings.inventory_waiting_max,
        backlog_max=settings.inventory_backlog_max,
        confirm=confirm,
    )
    upkeep = StockUpkeep(redis)
    sales = Sales(redis)
    kill_switch = KillSwitch(redis, confirm=confirm)
    watch = SalesWatch(
        redis,
        sales,
        kill_switch,
        clock=clock,
        interval_s=settings.inventory_watch_interval_s,
        first_timeout_s=settings.redis_timeout_s,
        streams_max=settings.inventory_watch_streams_max,
    )
    holds = HoldsReader(redis)
    registry = SaleRegistry(
        order_pb2_grpc.OrderServiceStub(orders),
        clock=clock,
        timeout_s=settings.inventory_order_timeout_s,
    )
    streams = OutboxStreams(
        redis,
        # Never the name of a process that died: its entries are taken over when idle.
        consumer=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        entries_max=settings.inventory_relay_entries_max,
        claim_idle_s=settings.inventory_relay_claim_idle_s,
    )
    relay = Relay(
        streams,
        OrdersProducer(
            settings.kafka_bootstrap,
            topic=settings.orders_topic,
            dead_letter_topic=settings.dead_letter_topic,
            batch_entries_max=settings.inventory_relay_batch_entries_max,
            batch_bytes_max=settings.inventory_relay_batch_bytes_max,
            delivery_timeout_s=settings.inventory_relay_delivery_timeout_s,
        ),
        UnreadableEntries(sales=sales, holds=holds, streams=streams, registry=registry),
        settings=settings,
        clock=clock,
    )
    rebuilder = Rebuilder(
        sales=sales,
        upkeep=upkeep,
        streams=streams,
        relay=relay,
        registry=registry,
        clock=clock,
        redis_timeout_s=settings.redis_timeout_s,
    )
    service = InventoryService(
        stock=stock,
        upkeep=upkeep,
        rebuilder=rebuilder,
        holds=holds,
        sales=sales,
        kill_switch=kill_switch,
        watch=watch,
        relay=relay,
        registry=registry,
        settings=settings,
        clock=clock,
    )
    await process.spawn("relay", relay.run())
    await process.spawn("watch", watch.run())
    readiness = {}
    for store, configuration in configuration_checks(settings, redis).items():
        await process.spawn(f"{store}-configuration", configuration.run())
        readiness[f"{store}_configuration"] = configuration.check
    health = Health(SERVICES)
    port = await process.enter(
        serving(
            settings.inventory_listen,
            lambda server: inventory_pb2_grpc.add_InventoryServiceServicer_to_server(
                service, server
            ),
            settings=settings,
            health_state=health,
            services=SERVICES,
        )
    )
    log.info("serving", port=port)
    try:
        await process.until_stopped(
            health,
            {"redis": redis.ping, **readiness},
        )
    finally:
        # Streams that never end by themselves would hold up the drain.
        watch.close()


if __name__ == "__main__":
    run("inventory", InventorySettings, serve)
