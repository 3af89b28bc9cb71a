"""What traces cost a purchase: on at the default share, off, and before there were any."""

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.base import Release, before_traces
from bench.cores import LOWEST_NICE, pin
from bench.measures.parts import database
from bench.sample import InvalidSample, Sample
from bench.services import Service, python_module, start_program
from bench.world import World
from devstack.ports import pick_free_port

# Databases of the run's Redis, of one mesh each.
DATABASES = {"traces_before": 4, "traces_off": 5, "traces_on": 6}
# Forth and back, so that what grows or cools down meanwhile falls on all alike; in short turns, so
# that a machine that is slower for some seconds is so for all.
ORDER = (*DATABASES, *reversed(DATABASES))
# Turns for the buyers of one.
TURNS_SHARE = 4
EXPORTED = 'seckill_trace_spans_total{result="exported"} '


@dataclass(frozen=True)
class Pair:
    """A gateway and its inventory."""

    gateway: Service
    inventory: Service


def traces(world: World) -> dict[str, Sample]:
    """The same purchases through three pairs of gateway and inventory, each in its turn."""
    calls: Counter[str] = Counter()
    seconds = dict.fromkeys(DATABASES, 0.0)
    cpu_s: dict[str, Counter[str]] = {name: Counter() for name in DATABASES}
    release = before_traces()
    with collector(world) as endpoint, ExitStack() as running:
        how: dict[str, dict[str, Any]] = {
            "traces_before": {"release": release},
            "traces_off": {},
            "traces_on": {"endpoint": endpoint},
        }
        pairs = {
            name: running.enter_context(pair(world, DATABASES[name], **how[name]))
            for name in DATABASES
        }
        for name in ORDER * world.sizes.traces_rounds:
            sample = _buy(world, pairs[name])
            calls[name] += sample.calls
            seconds[name] += sample.seconds
            cpu_s[name].update(sample.cpu_s)
        if not world.metric(pairs["traces_on"].gateway, EXPORTED):
            raise InvalidSample("no span has come to the collector")
    return {
        name: Sample(calls=calls[name], seconds=seconds[name], cpu_s=dict(cpu_s[name]))
        for name in DATABASES
    }


def _buy(world: World, pair: Pair) -> Sample:
    buyers = world.sizes.public_buyers // TURNS_SHARE
    sku = world.create_sale(units=buyers, address=pair.inventory.address)
    target = pair.gateway.address
    world.issue(sku, buyers=buyers, target=target)
    clocks = world.clocks("redis", more={"gateway": pair.gateway, "inventory": pair.inventory})
    return world.load.run(
        "purchase", target, sku=sku, buyers=buyers, total=buyers, clocks=clocks
    ).require(outcome="RESERVED")


@contextmanager
def collector(world: World) -> Iterator[str]:
    """A collector that is not on the core of what is measured; yields its endpoint."""
    port = pick_free_port()
    address = f"127.0.0.1:{port}"
    process = start_program(
        python_module("bench.baselines.collector", str(port)),
        name="collector",
        directory=world.directory,
        address=address,
    )
    pin(process.pid, world.cores.others, nice=LOWEST_NICE)
    try:
        yield f"http://{address}"
    finally:
        process.stop()


@contextmanager
def pair(
    world: World, number: int, *, release: Release | None = None, endpoint: str = ""
) -> Iterator[Pair]:
    """A gateway and an inventory on a Redis database and a topic of their own."""
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    world.create_topics(topic)
    settings = {
        "SECKILL_REDIS_URL": world.redis_url(number),
        "SECKILL_ORDERS_TOPIC": topic,
        "SECKILL_DEAD_LETTER_TOPIC": f"{topic}.dlq",
    }
    if endpoint:
        settings["SECKILL_TRACES_ENDPOINT"] = endpoint
    how: dict[str, Any] = {"cores": world.cores.servers, "release": release}
    with database(world, number), ExitStack() as running:
        inventory = world.services.start("inventory", settings=settings, **how)
        running.callback(inventory.stop)
        target = {"SECKILL_INVENTORY_TARGET": f"dns:///{inventory.address}"}
        gateway = world.services.start("gateway", settings={**settings, **target}, **how)
        running.callback(gateway.stop)
        yield Pair(gateway, inventory)
