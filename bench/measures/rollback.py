"""How long it takes to bring expired orders back, with few and with many others waiting."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from bench.sample import Sample
from bench.services import Service
from bench.world import World
from inventory_svc.keys import stock_key, users_key
from seckill.runtime.delay import delay_key
from seckill.v1 import rollback_pb2, rollback_pb2_grpc

CHUNK = 10_000
DAY_MS = 86_400_000
SWEEP_TIMEOUT_S = 60.0
# More rounds than any run needs.
ROUNDS_MAX = 100

WRITE = """
    INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency,
                        status, epoch, created_at, expires_at)
    SELECT order_no, $2, order_no, 'attempt', 1, 100, 'EUR', 'pending', 1,
           now() - interval '2 days', now() + $3
    FROM unnest($1::text[]) AS i (order_no)
"""
COUNT = "UPDATE sales SET sold = sold + $2 WHERE sku = $1"


@contextmanager
def _own_rollback(world: World) -> Iterator[Service]:
    """A rollback service that does nothing by itself, in the place of the one that does."""
    quiet = {"SECKILL_ROLLBACK_INTERVAL_S": "86400"}
    world.rollback.stop()
    service = world.services.start("rollback", cores=world.cores.servers, settings=quiet)
    try:
        yield service
    finally:
        service.stop()
        world.restart_rollback()


def flatness(world: World) -> dict[str, list[Sample]]:
    """`rollback_few` and `rollback_many`: the same orders rolled back, others waiting beside."""
    sizes = world.sizes
    waiting_sku = world.create_sale(units=10_000_000, prefix="waiting")
    found: dict[str, list[Sample]] = {"rollback_few": [], "rollback_many": []}
    waiting = world.redis.zcard(delay_key())
    with _own_rollback(world) as service:
        for name, pending in (
            ("rollback_few", sizes.pending_few),
            ("rollback_many", sizes.pending_many),
        ):
            if waiting < pending:
                _add_waiting(world, waiting_sku, pending - waiting)
                waiting = pending
            for _ in range(min(3, sizes.repetitions + 1)):
                found[name].append(_roll_back(world, service, sizes.due))
    return found


def _numbers(count: int) -> list[str]:
    tag = uuid.uuid4().hex[:12].upper()
    return [f"0{tag}{number:013d}" for number in range(count)]


def _add_waiting(world: World, sku: str, count: int) -> None:
    """Orders whose payment is not due for long."""
    later_ms = int(time.time() * 1000) + DAY_MS
    for first in range(0, count, CHUNK):
        numbers = _numbers(min(CHUNK, count - first))
        _write(world, sku, numbers, expires="1 day")
        world.redis.zadd(delay_key(), dict.fromkeys(numbers, later_ms))


def _write(world: World, sku: str, numbers: list[str], *, expires: str) -> None:
    async def work() -> None:
        async with connection.transaction():
            query = WRITE.replace("$3", f"interval '{expires}'")
            await connection.execute(query, numbers, sku)
            await connection.execute(COUNT, sku, len(numbers))

    connection = world.postgres()
    try:
        world.wait_for(work())
    finally:
        world.wait_for(connection.close())


def _roll_back(world: World, service: Service, due: int) -> Sample:
    """Orders that expired a day ago, all put before the service at once."""
    sku = world.create_sale(units=due, prefix="due")
    numbers = _numbers(due)
    _write(world, sku, numbers, expires="-1 day")
    for first in range(0, due, CHUNK):
        chunk = numbers[first : first + CHUNK]
        holds: dict[Any, Any] = {number: f"{number} 1 attempt" for number in chunk}
        world.redis.hset(users_key(sku), mapping=holds)
    world.redis.decrby(stock_key(sku), due)
    expired_ms = int(time.time() * 1000) - DAY_MS
    world.redis.zadd(delay_key(), dict.fromkeys(numbers, expired_ms))
    clocks = world.clocks(
        "order", "inventory", "redis", "postgres", more={"rollback": service.process}
    )
    before, start_s = clocks(), time.monotonic()
    with grpc.insecure_channel(service.address) as channel:
        stub = rollback_pb2_grpc.RollbackServiceStub(channel)
        for _ in range(ROUNDS_MAX):
            stub.Sweep(rollback_pb2.SweepRequest(), timeout=SWEEP_TIMEOUT_S)
            if world.redis.get(stock_key(sku)) == str(due).encode():
                break
    seconds, after = time.monotonic() - start_s, clocks()
    cpu_s = {name: after[name] - before[name] for name in before}
    return Sample(calls=due, seconds=seconds, cpu_s=cpu_s)
