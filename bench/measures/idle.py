"""What sales cost while nobody buys: one, a thousand open ones, and the same once they are closed.

A "call" is a command that Redis runs. The inventory service of its own has its default settings.
"""

import time
from typing import Any

import grpc
import redis

from bench.measures.parts import NO_KAFKA, database, service
from bench.sample import Sample
from bench.services import Service
from bench.world import World
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2

# A database of the same Redis, apart from that of the mesh and from those of `parts`.
IDLE = 3
CALL_TIMEOUT_S = 10.0


def idle(world: World) -> dict[str, Sample]:
    """`idle_one`, `idle_open` and `idle_closed`: an interval without any call."""
    sizes = world.sizes
    settings = {"redis_url": world.redis_url(IDLE), "kafka_bootstrap": NO_KAFKA}
    found: dict[str, Sample] = {}
    with database(world, IDLE) as client, service(world, "inventory", **settings) as inventory:
        skus = [world.create_sale(units=10, prefix="idle", address=inventory.address)]
        found["idle_one"] = _interval(world, client, inventory)
        skus += [
            world.create_sale(units=10, prefix="idle", address=inventory.address)
            for _ in range(sizes.idle_sales - 1)
        ]
        found["idle_open"] = _interval(world, client, inventory)
        with grpc.insecure_channel(inventory.address) as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            for sku in skus:
                request = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_CLOSED)
                stub.UpdateSale(request, timeout=CALL_TIMEOUT_S)
        found["idle_closed"] = _interval(world, client, inventory)
    return found


def _interval(world: World, client: "redis.Redis", inventory: Service) -> Sample:
    """What is used in some seconds, once everything has come to rest."""
    # The mesh's own services use the same Redis: what they cost is there before and after.
    time.sleep(world.sizes.idle_settle_s)
    clocks = world.clocks("redis", more={"inventory": inventory})
    start_s, before, commands = time.monotonic(), clocks(), _commands(client)
    time.sleep(world.sizes.idle_s)
    after, later = clocks(), _commands(client)
    return Sample(
        calls=later - commands,
        seconds=time.monotonic() - start_s,
        cpu_s={name: after[name] - before[name] for name in before},
    )


def _commands(client: "redis.Redis") -> int:
    """Commands that Redis has run, for all that use it."""
    stats: dict[str, Any] = client.info("stats")
    return int(stats["total_commands_processed"])
