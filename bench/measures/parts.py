"""Single services, each beside what it is made of: script, producer, INSERT.

The real processes run, with their default settings; only what surrounds them is prepared.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis

from bench.baselines.reserver import BATCH
from bench.cores import children_on, pin
from bench.load import Clocks
from bench.sample import InvalidSample, Sample
from bench.services import Service, python_module
from bench.world import World
from inventory_svc.keys import (
    BATCH_FIELD,
    backlog_key,
    outbox_key,
    sale_key,
    skus_key,
    stock_key,
    users_key,
)
from inventory_svc.stock.scripts import RESERVE

# Databases of the same Redis, apart from that of the mesh, so that its relay finds nothing there.
DECIDING, RELAYING = 1, 2
PART_TIMEOUT_S = 120.0
# How often progress is looked at; shorter than anything measured by far.
LOOK_S = 0.002
# Nothing listens there.
NO_KAFKA = "127.0.0.1:9"
FILL_CHUNK = 5_000
# Stands for the id of a call, which the batches of gateways have.
CALL_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
# Reservations in an outbox entry: what a batch of a busy gateway has.
ENTRY_BATCH = 100


def run_part(name: str, *arguments: str, cores: Collection[int]) -> dict[str, Any]:
    """Run a module of bench.baselines on `cores`; what it prints."""
    with children_on(cores):
        done = subprocess.run(
            python_module(f"bench.baselines.{name}", *arguments),
            stdout=subprocess.PIPE,
            text=True,
            timeout=PART_TIMEOUT_S,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def database(world: World, number: int) -> Iterator["redis.Redis"]:
    """An empty database of the run's Redis."""
    with redis.Redis.from_url(world.redis_url(number)) as client:
        client.flushdb()
        yield client
        client.flushdb()


@contextmanager
def service(world: World, name: str, **settings: str) -> Iterator[Service]:
    """A further process of the mesh, on the servers' core."""
    prefixed = {f"SECKILL_{key.upper()}": value for key, value in settings.items()}
    running = world.services.start(name, cores=world.cores.servers, settings=prefixed)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def redis_behind(world: World) -> Iterator[None]:
    """Meanwhile Redis is a store like the others: not on the core of what is measured."""
    pin(world.pid("redis"), world.cores.others)
    try:
        yield
    finally:
        pin(world.pid("redis"), world.cores.servers)


def deciding(world: World) -> dict[str, Sample]:
    """Decisions of one Redis: `reserve` through BatchReserve, `scripts` one at a time, pipelined.

    Redis has a core for itself; its clients have the other. The service's relay finds no Kafka:
    only the deciding is compared.
    """
    entries = world.sizes.decisions
    with database(world, DECIDING) as client:
        settings = {
            "redis_url": world.redis_url(DECIDING),
            "kafka_bootstrap": NO_KAFKA,
            "inventory_backlog_max": "1000000000",
            "log_level": "error",
        }
        with service(world, "inventory", **settings) as inventory:
            pin(inventory.pid, world.cores.others)
            sku = world.create_sale(units=entries, address=inventory.address)
            found = run_part(
                "reserver", inventory.address, sku, str(entries), cores=world.cores.others
            )
            if found["reserved"] != entries:
                raise InvalidSample(f"{found['reserved']} of {entries} attempts were reserved")
            alone = world.create_sale(units=entries, address=inventory.address)
        digest = client.script_load(RESERVE.body)
        scripts = world.load.run_scripts(
            address=world.redis_address,
            database=DECIDING,
            connections=50,
            pipeline=32,
            total=entries,
            prefix="buyer",
            sku=alone,
            script=digest,
            keys=[
                sale_key(alone),
                stock_key(alone),
                users_key(alone),
                outbox_key(alone),
                backlog_key(alone),
            ],
        )
    reserve = Sample(calls=entries, seconds=found["seconds"], outcomes={"BATCH": BATCH})
    return {"reserve": reserve, "scripts": scripts}


def moving(world: World) -> dict[str, Sample]:
    """`relay`: a full outbox into Kafka. `orders`: the same messages from Kafka into rows."""
    entries = world.sizes.entries
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    world.create_topics(topic)
    settings = {
        "redis_url": world.redis_url(RELAYING),
        "orders_topic": topic,
        "dead_letter_topic": f"{topic}.dlq",
    }
    sku = world.create_sale(units=entries)
    with database(world, RELAYING) as client, redis_behind(world):
        _fill(client, sku, entries=entries)
        with service(world, "inventory", **settings) as inventory:
            relay = _relay(world, client, sku, inventory, entries=entries)
        order_settings = {**settings, "order_consumer_group": topic}
        orders = _consume(world, sku, order_settings, entries=entries)
    return {"relay": relay, "orders": orders}


def _fill(client: "redis.Redis", sku: str, *, entries: int) -> None:
    """An outbox as reserve.lua leaves it."""
    tag = uuid.uuid4().hex[:8].upper()
    now_ms = int(time.time() * 1000)
    for first in range(0, entries, FILL_CHUNK):
        pipeline = client.pipeline(transaction=False)
        numbers = range(first, min(first + FILL_CHUNK, entries))
        for start in range(0, len(numbers), ENTRY_BATCH):
            lines = [
                f"0{tag}{number:017d} 1 attempt-{number} {tag}-{number:07d}"
                for number in numbers[start : start + ENTRY_BATCH]
            ]
            pipeline.xadd(
                outbox_key(sku), {BATCH_FIELD: "\n".join((f"1 {now_ms} {CALL_ID}", *lines))}
            )
        pipeline.execute()
    counted: dict[Any, Any] = {"entries": client.xlen(outbox_key(sku)), "reservations": entries}
    client.hset(backlog_key(sku), mapping=counted)
    client.sadd(skus_key(), sku)


def _relay(
    world: World, client: "redis.Redis", sku: str, inventory: Service, *, entries: int
) -> Sample:
    """From the first entry gone to the last."""
    clocks = world.clocks("kafka", "redis", more={"inventory": inventory})

    def moved() -> int:
        return entries - ENTRY_BATCH * int(client.xlen(outbox_key(sku)))

    return _watch(world, moved, clocks=clocks, entries=entries)


def _consume(world: World, sku: str, settings: Mapping[str, str], *, entries: int) -> Sample:
    """From the first batch written to the last."""
    connection = world.postgres()
    try:
        with service(world, "order", **settings) as order:
            clocks = world.clocks("kafka", "redis", "postgres", more={"order": order})
            query = "SELECT sold FROM sales WHERE sku = $1"
            return _watch(
                world,
                lambda: int(world.wait_for(connection.fetchval(query, sku))),
                clocks=clocks,
                entries=entries,
            )
    finally:
        world.wait_for(connection.close())


def _watch(world: World, count: Callable[[], int], *, clocks: Clocks, entries: int) -> Sample:
    """Watch a count grow to `entries`, from the moment at which it is no longer 0."""
    first = 0

    def has_started() -> bool:
        nonlocal first
        first = count()
        return first > 0

    world.poll_until(has_started, interval_s=LOOK_S)
    start_s, before = time.monotonic(), clocks()
    world.poll_until(lambda: count() >= entries, interval_s=LOOK_S)
    seconds, after = time.monotonic() - start_s, clocks()
    return Sample(
        calls=entries - first,
        seconds=seconds,
        cpu_s={name: after[name] - before[name] for name in before},
    )


def producing(world: World) -> dict[str, Sample]:
    """The bare aiokafka producer."""
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    world.create_topics(topic)
    found = run_part(
        "producer",
        world.stores.kafka_bootstrap,
        topic,
        str(world.sizes.entries),
        cores=world.cores.servers,
    )
    return {"producer": Sample(calls=found["calls"], seconds=found["seconds"])}


def inserting(world: World) -> dict[str, Sample]:
    """The bare INSERT."""
    found = run_part(
        "insert", world.stores.postgres_dsn, str(world.sizes.entries), cores=world.cores.servers
    )
    return {"insert": Sample(calls=found["calls"], seconds=found["seconds"])}
