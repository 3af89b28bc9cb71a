"""`python -m rollback_svc`: wiring, and nothing else."""

import random

import structlog

from rollback_svc.books import Books
from rollback_svc.reconciler import Reconciler
from rollback_svc.service import RollbackService
from rollback_svc.settings import RollbackSettings
from rollback_svc.stages import InventoryStage, OrderStage
from rollback_svc.sweeper import Sweeper
from seckill.channel import open_channel
from seckill.clock import SystemClock
from seckill.delay import DelaySet
from seckill.process import Process, run
from seckill.redis_client import open_redis
from seckill.server import Health, serving
from seckill.v1.rollback_pb2_grpc import add_RollbackServiceServicer_to_server

SERVICE = "seckill.v1.RollbackService"
log = structlog.get_logger()


async def serve(settings: RollbackSettings, process: Process) -> None:
    """Open what the stage needs, run the rounds, serve until stopped."""
    redis = await process.enter(open_redis(settings))
    to_orders = await process.enter(
        open_channel(
            settings.order_target,
            service="seckill.v1.OrderService",
            reads=["ListExpired"],
        )
    )
    to_inventory = await process.enter(
        open_channel(settings.inventory_target, service="seckill.v1.InventoryService")
    )
    timeout_s = settings.rollback_call_timeout_s
    delay = DelaySet(redis)
    clock = SystemClock()
    sweeper = Sweeper(
        settings=settings,
        delay=delay,
        orders=OrderStage(to_orders, timeout_s=timeout_s, lease_s=settings.rollback_lease_s),
        inventory=InventoryStage(to_inventory, timeout_s=timeout_s),
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter
    )
    reconciler = Reconciler(
        Books(
            to_orders=to_orders,
            to_inventory=to_inventory,
            holds_max=settings.rollback_reconcile_holds_max,
        ),
        settings=settings,
        clock=clock,
    )
    service = RollbackService(
        sweeper=sweeper, reconciler=reconciler, delay=delay, clock=clock, settings=settings
    )
    health = Health([SERVICE])
    await process.spawn("sweeper", sweeper.run())
    await process.spawn("reconciler", reconciler.run())
    port = await process.enter(
        serving(
            settings.rollback_listen,
            lambda server: add_RollbackServiceServicer_to_server(service, server),
            settings=settings,
            health_state=health,
            services=[SERVICE],
        )
    )
    log.info("serving", port=port)
    # The other stages are not checked: nobody is better off without this one while they are away.
    await process.until_stopped(health, {"redis": redis.ping})


if __name__ == "__main__":
    run("rollback", RollbackSettings, serve)
