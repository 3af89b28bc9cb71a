"""`python -m rollback_svc`: the wiring, by hand."""

import random
from functools import partial

import grpc
import structlog

from rollback_svc.clients import InventoryClient, OrderClient
from rollback_svc.preflight import build_preflight
from rollback_svc.reconcile_source import ReconcileSource
from rollback_svc.reconciler import Reconciler
from rollback_svc.service import RollbackService
from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.runtime.channel import open_channel
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import DelaySet
from seckill.runtime.preflight.service import PREFLIGHT_SERVICE
from seckill.runtime.process import Process, run
from seckill.runtime.redis_client import check_writable, open_redis
from seckill.runtime.server import Health, serving
from seckill.v1.rollback_pb2_grpc import add_RollbackServiceServicer_to_server

SERVICE = "seckill.v1.RollbackService"
log = structlog.get_logger()


async def open_parts(
    settings: RollbackSettings, process: Process, *, delay: DelaySet
) -> tuple[Sweeper, Reconciler]:
    """Open the channels to the other services; the sweeper and the reconciler that use them."""
    to_orders = await process.enter(
        open_channel(
            settings.order_target,
            service="seckill.v1.OrderService",
            mesh=settings.mesh_tls(),
            reads=["ListExpired"],
        )
    )
    to_inventory = await process.enter(
        open_channel(
            settings.inventory_target,
            service="seckill.v1.InventoryService",
            mesh=settings.mesh_tls(),
        )
    )
    timeout_s = settings.rollback_call_timeout_s
    sweeper = Sweeper(
        settings=settings,
        delay=delay,
        orders=OrderClient(to_orders, timeout_s=timeout_s, lease_s=settings.rollback_lease_s),
        inventory=InventoryClient(to_inventory, timeout_s=timeout_s),
        clock=SystemClock(),
        rng=random.Random(),  # noqa: S311 - jitter
    )
    source = ReconcileSource(
        to_orders=to_orders,
        to_inventory=to_inventory,
        holds_max=settings.rollback_reconcile_holds_max,
    )
    return sweeper, Reconciler(source, delay=delay, settings=settings, clock=SystemClock())


async def serve(settings: RollbackSettings, process: Process) -> None:
    """Open what the service needs, run the rounds, serve until stopped."""
    redis = await process.enter(open_redis(settings))
    delay = DelaySet(redis, shards=settings.delay_shards)
    sweeper, reconciler = await open_parts(settings, process, delay=delay)
    service = RollbackService(
        sweeper=sweeper,
        reconciler=reconciler,
        delay=delay,
        clock=SystemClock(),
        settings=settings,
    )
    checks = {"redis": partial(check_writable, redis)}
    preflight = build_preflight(
        settings,
        redis,
        sweeper=sweeper,
        delay=delay,
        clock=SystemClock(),
        readiness_checks=checks,
    )
    services = [SERVICE, PREFLIGHT_SERVICE]
    health = Health(services)

    def register(server: grpc.aio.Server) -> None:
        add_RollbackServiceServicer_to_server(service, server)
        preflight.register(server)

    await process.spawn("sweeper", sweeper.run())
    await process.spawn("reconciler", reconciler.run())
    port = await process.enter(
        serving(
            settings.rollback_listen,
            register,
            settings=settings,
            health_state=health,
            services=services,
        )
    )
    log.info("serving", port=port)
    # The other services are not checked: while they are away, this one not ready helps no caller.
    await process.until_stopped(health, checks)


if __name__ == "__main__":
    run("rollback", RollbackSettings, serve)
