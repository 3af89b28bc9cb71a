"""`python -m inventory_svc`: open the stores, start what runs, serve."""

from collections.abc import Mapping
from functools import partial

import grpc
import structlog

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.durability import configuration_checks
from inventory_svc.fence.lease import StoreLease
from inventory_svc.fence.shards import ShardLeases
from inventory_svc.front import SERVICE, open_front
from inventory_svc.preflight import build_preflight
from inventory_svc.sales.registry import ORDER_SERVICE, READS, SaleRegistry
from inventory_svc.settings import InventorySettings
from inventory_svc.wiring import Connections, Inventory, build_inventory
from seckill.runtime.channel import open_channel
from seckill.runtime.clock import SystemClock
from seckill.runtime.preflight.service import PREFLIGHT_SERVICE
from seckill.runtime.process import HealthCheck, Process, run
from seckill.runtime.redis_client import check_writable, open_redis
from seckill.runtime.redis_reads import open_reads
from seckill.runtime.server import Health
from seckill.v1 import inventory_pb2_grpc, order_pb2_grpc

SERVICES = (SERVICE, PREFLIGHT_SERVICE)
log = structlog.get_logger()


async def open_connections(settings: InventorySettings, process: Process) -> Connections:
    """Open the connections to Redis and to order_svc."""
    clock = SystemClock()
    client = await process.enter(open_redis(settings))
    orders = await process.enter(
        open_channel(
            settings.order_target, service=ORDER_SERVICE, mesh=settings.mesh_tls(), reads=READS
        )
    )
    # Asked all the time, also while the order service is away: no reason to refuse other calls.
    confirmations = await process.enter(
        open_channel(
            settings.order_target, service=ORDER_SERVICE, mesh=settings.mesh_tls(), breaker=False
        )
    )
    registry = SaleRegistry(
        order_pb2_grpc.OrderServiceStub(orders),
        clock=clock,
        timeout_s=settings.inventory_order_timeout_s,
    )
    return Connections(
        settings,
        client,
        registry,
        clock,
        Layouts(client),
        ShardLeases() if settings.redis_cluster else StoreLease(client, clock=clock),
        order_pb2_grpc.OrderServiceStub(confirmations),
    )


async def start_checks(
    connections: Connections, process: Process, inventory: Inventory
) -> Mapping[str, HealthCheck]:
    """Start to confirm the store and to look at the stores' configuration; returns the readiness
    checks that tell what was seen.
    """
    fence, client = inventory.fence, connections.redis
    await process.spawn("store-fence", fence.run())
    await process.spawn("stale-sales", inventory.discarded.run())
    checks: dict[str, HealthCheck] = {
        "redis": partial(check_writable, client),
        "store": fence.check,
    }
    looks = configuration_checks(connections.settings, client, inventory.topics)
    for store, configuration in looks.items():
        await process.spawn(f"{store}-configuration", configuration.run())
        checks[f"{store}_configuration"] = configuration.check
    return checks


async def serve(settings: InventorySettings, process: Process) -> None:
    """Open the stores, start the relay and the watch, serve until stopped."""
    connections = await open_connections(settings, process)
    reads = await process.enter(open_reads(connections.redis, settings))
    inventory = build_inventory(connections, reads)
    await process.spawn("relay", inventory.relay.run())
    await process.spawn("watch", inventory.watch.run())
    checks = {
        "relay": inventory.relay.check,
        **await start_checks(connections, process, inventory),
    }
    preflight = build_preflight(
        settings,
        connections.redis,
        kill_switch=inventory.kill_switch,
        readiness_checks=checks,
    )
    health = Health(SERVICES)

    def register(server: grpc.aio.Server) -> None:
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server(inventory.service, server)
        preflight.register(server)

    port = await process.enter(
        open_front(settings, inventory.attempts, register, health=health, services=SERVICES)
    )
    log.info("serving", port=port, front=settings.inventory_front)
    await process.until_stopped(health, checks)


if __name__ == "__main__":
    run("inventory", InventorySettings, serve)
