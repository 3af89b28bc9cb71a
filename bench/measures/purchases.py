"""Calls of buyers: the echo, purchases, refusals, polling, a crowd; and the rival's."""

import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from bench.base import base
from bench.measures.parts import database
from bench.sample import Sample
from bench.world import PATH, WHOLE_PATH, World

# How long a server is called before the interval that counts.
WARM_UP_S = 0.3
# On each connection: enough to keep the core busy, and too few for the gateway to refuse any.
ALONE_IN_FLIGHT = 16
# Buyers of a crowd buy in groups of this size, each two or three times within about half a
# second, as impatient people do.
CROWD_BLOCK = 10_000
# Of the base release in the same Redis, apart from that of the mesh.
BASE_DATABASE = 3


def echo(world: World) -> dict[str, Sample]:
    """The bare grpc.aio echo."""
    target = world.echo_address
    world.load.run("echo", target, seconds=WARM_UP_S)
    clocks = world.clocks("echo")
    sample = world.load.run("echo", target, seconds=world.sizes.seconds, clocks=clocks)
    return {"echo": sample.require()}


def purchase(world: World) -> dict[str, Sample]:
    """Distinct buyers, each with a token of their own, buy one unit each.

    Gives `issue`, `purchase` (until the last answer) and `order` (until the last row).
    """
    buyers = world.sizes.buyers
    sku = world.create_sale(units=buyers)
    world.load.mint(buyers, world.services.issuer)
    held = world.held_bytes()
    issue = world.load.run(
        "issue",
        world.gateway.address,
        sku=sku,
        buyers=buyers,
        total=buyers,
        clocks=world.clocks("gateway"),
    ).require()
    clocks = world.clocks(*WHOLE_PATH)
    before, start_s = clocks(), time.monotonic()
    bought = world.load.run(
        "purchase",
        world.gateway.address,
        sku=sku,
        buyers=buyers,
        total=buyers,
        clocks=world.clocks(*PATH),
    ).require(outcome="RESERVED")
    world.expect_orders(bought)
    world.settle()
    after = clocks()
    _note_memory(world, held)
    order = Sample(
        calls=buyers,
        seconds=time.monotonic() - start_s,
        cpu_s={name: after[name] - before[name] for name in before},
    )
    return {"issue": issue, "purchase": bought, "order": order}


def base_purchase(world: World) -> dict[str, Sample]:
    """The same purchases through gateway and inventory of the base release, in a Redis database of
    their own. What they promise becomes no order: the path that is compared ends at the answer.
    """
    release = base()
    buyers = world.sizes.public_buyers
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    world.create_topics(topic)
    settings = {
        "SECKILL_REDIS_URL": world.redis_url(BASE_DATABASE),
        "SECKILL_ORDERS_TOPIC": topic,
        "SECKILL_DEAD_LETTER_TOPIC": f"{topic}.dlq",
    }
    how: dict[str, Any] = {"cores": world.cores.servers, "release": release}
    with database(world, BASE_DATABASE), ExitStack() as running:
        inventory = world.services.start("inventory", settings=settings, **how)
        running.callback(inventory.stop)
        target = {"SECKILL_INVENTORY_TARGET": f"dns:///{inventory.address}"}
        gateway = world.services.start("gateway", settings=target, **how)
        running.callback(gateway.stop)
        sku = world.create_sale(units=buyers, address=inventory.address)
        world.issue(sku, buyers=buyers, target=gateway.address)
        clocks = world.clocks("redis", more={"gateway": gateway, "inventory": inventory})
        sample = world.load.run(
            "purchase", gateway.address, sku=sku, buyers=buyers, total=buyers, clocks=clocks
        )
    return {"base_purchase": sample.require(outcome="RESERVED")}


def _note_memory(world: World, before: Mapping[str, float]) -> None:
    """What the first round of buyers and orders has added."""
    names = {
        "gateway": "buyer in the gateway (identity, bucket)",
        "redis": "pending order in Redis (hold, delay, projection)",
        "postgres": "order on the database's disk (rows, indexes, ledger)",
    }
    for process, held in world.held_bytes().items():
        each = (held - before[process]) / world.sizes.buyers
        world.bytes_each.setdefault(names[process], each)


def sold_out(world: World) -> dict[str, Sample]:
    """Refusals of a sold-out sale: `sold_out_once` for the first attempts of buyers, `sold_out` for
    their further ones.
    """
    buyers = world.sizes.storm_buyers
    sku = world.create_sale(units=1)
    world.issue(sku, buyers=buyers)
    # One buyer takes the unit; another one's attempt shows that the sale is known to be sold out.
    single: dict[str, Any] = {"sku": sku, "connections": 1, "in_flight": 1, "total": 1}
    first = world.load.run("purchase", world.gateway.address, buyers=1, **single)
    world.expect_orders(first)
    world.load.run("purchase", world.gateway.address, first=1, buyers=1, **single)
    time.sleep(2 * WARM_UP_S)
    clocks = world.clocks(*PATH)
    target = world.gateway.address
    others: dict[str, Any] = {"sku": sku, "first": 1, "buyers": buyers - 1}
    once = world.load.run("purchase", target, total=buyers - 1, clocks=clocks, **others)
    again = world.load.run("purchase", target, seconds=world.sizes.seconds, clocks=clocks, **others)
    return {
        "sold_out_once": once.require(outcome="SOLD_OUT"),
        "sold_out": again.require(outcome="SOLD_OUT"),
    }


def polling(world: World) -> dict[str, Sample]:
    """GetOrder by buyers who own one."""
    buyers = world.sizes.storm_buyers
    sku = world.create_sale(units=buyers)
    world.issue(sku, buyers=buyers)
    target = world.gateway.address
    whose: dict[str, Any] = {"sku": sku, "buyers": buyers}
    bought = world.load.run("purchase", target, total=buyers, **whose)
    world.expect_orders(bought.require(outcome="RESERVED"))
    world.settle()
    clocks = world.clocks("gateway", "order", "redis", "postgres")
    sample = world.load.run("poll", target, seconds=world.sizes.seconds, clocks=clocks, **whose)
    return {"polling": sample.require()}


def rival_purchase(world: World) -> dict[str, Sample]:
    """The same purchases through the Go rival."""
    buyers = world.sizes.buyers
    sku = world.create_rival_sale(units=buyers)
    target = world.rival_address
    world.issue(sku, buyers=buyers, target=target)
    clocks = world.clocks("rival", "redis")
    sample = world.load.run("purchase", target, sku=sku, buyers=buyers, total=buyers, clocks=clocks)
    world.redis.delete(f"rival:users:{{{sku}}}", f"rival:queue:{{{sku}}}")
    return {"rival_purchase": sample.require(outcome="RESERVED")}


def crowd(world: World) -> dict[str, Sample]:
    """Many buyers try again and again to get one of a few units."""
    sizes = world.sizes
    sku = world.create_sale(units=sizes.crowd_units)
    world.issue(sku, buyers=sizes.crowd_buyers)
    sample = _crowd(world, world.gateway.address, sku, *PATH)
    world.expect_orders(sample)
    world.settle()
    return {"crowd": sample.require()}


def rival_crowd(world: World) -> dict[str, Sample]:
    """The same crowd at the Go rival."""
    sizes = world.sizes
    sku = world.create_rival_sale(units=sizes.crowd_units)
    world.issue(sku, buyers=sizes.crowd_buyers, target=world.rival_address)
    sample = _crowd(world, world.rival_address, sku, "rival", "redis")
    return {"rival_crowd": sample.require()}


def _crowd(world: World, target: str, sku: str, *names: str) -> Sample:
    sizes = world.sizes
    return world.load.run(
        "purchase",
        target,
        sku=sku,
        buyers=sizes.crowd_buyers,
        block=CROWD_BLOCK,
        attempts=sizes.crowd_attempts / sizes.crowd_buyers,
        total=sizes.crowd_attempts,
        clocks=world.clocks(*names),
    )


def alone(world: World) -> dict[str, Sample]:
    """Purchases through a gateway that never joins two of them in one batch."""
    buyers = world.sizes.alone_buyers
    gateway = world.services.start(
        "gateway",
        cores=world.cores.servers,
        settings={
            "SECKILL_GATEWAY_BATCH_MAX": "1",
            # As many calls in flight as there are batches otherwise, times their size.
            "SECKILL_GATEWAY_BATCHES_IN_FLIGHT_MAX": "64",
        },
    )
    try:
        sku = world.create_sale(units=buyers)
        world.issue(sku, buyers=buyers, target=gateway.address)
        clocks = world.clocks("inventory", "redis", more={"gateway": gateway})
        sample = world.load.run(
            "purchase",
            gateway.address,
            sku=sku,
            buyers=buyers,
            total=buyers,
            in_flight=ALONE_IN_FLIGHT,
            clocks=clocks,
        )
    finally:
        gateway.stop()
    world.expect_orders(sample)
    world.settle()
    return {"alone": sample.require(outcome="RESERVED")}
