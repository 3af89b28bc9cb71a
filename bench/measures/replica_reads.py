"""What order polls cost the primary of Redis, and what is left of it when a replica answers them.

A sale and ten order polls for each of its attempts, in turn: polls that the primary answers, polls
that a replica answers, no polls. Each turn has the same attempts and the same polls; the CPU is the
primary's own account of it. Polls come one by one, as with few buyers, and in batches, as gateways
make them of a crowd's.

`python -m bench.measures.replica_reads` measures this alone.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis.asyncio

from devstack import ValkeyServer
from devstack.ports import LOOPBACK
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.stock import Stock
from order_svc.orders.projection import OrderProjection, key_of
from order_svc.settings import OrderSettings
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.runtime.redis_client import open_redis
from seckill.runtime.redis_reads import open_reads
from seckill.v1 import sale_pb2
from seckill.v1.inventory_pb2 import ReserveItem

# Attempts of a turn and polls of a turn; turns of each kind. Attempts are decided in batches.
ATTEMPTS, POLLS, TURNS = 2_048, 20_480, 3
ATTEMPT_BATCH, POLL_BATCHES = 32, (1, 32)
ORDERS, ORDER_BYTES = 2_000, 250
UNITS = 100_000_000
TIMEOUT_S = 10.0
READY_S = 60.0


def replica_reads(directory: Path) -> dict[str, float]:
    """Return the share of the primary's CPU that it is rid of once a replica answers, 0 to 1.

    Also by how much that is for each poll, in microseconds, and the CPU of an attempt alone;
    all for each size of the batches of polls.
    """
    with (
        ValkeyServer(directory / "read-primary") as primary,
        ValkeyServer(directory / "read-replica") as replica,
    ):
        return asyncio.run(_measure(primary, replica))


async def _measure(primary: ValkeyServer, replica: ValkeyServer) -> dict[str, float]:
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": "postgresql://none/none",
            "kafka_bootstrap": "none:1",
            "redis_url": primary.url,
            "redis_timeout_s": TIMEOUT_S,
            "redis_read_from": "replica",
        }
    )
    async with redis.asyncio.Redis.from_url(replica.url) as follower:
        await follower.replicaof(LOOPBACK, primary.port)
    async with open_redis(settings) as client, open_reads(client, settings) as reads:
        numbers = make_order_nos(["buyer"] * ORDERS, now_s=time.time(), rng=random.Random())
        for number in numbers:
            await client.set(key_of(number), random.randbytes(ORDER_BYTES))
        sku = f"bench-{uuid.uuid4().hex[:12]}"
        await _load(SaleLoader(client), sku)
        stock = Stock(
            client,
            clock=SystemClock(),
            rng=random.SystemRandom(),
            scripts_max=8,
            waiting_max=ATTEMPTS,
            backlog_max=UNITS,
        )
        by_replica = OrderProjection(client, settings, reads)
        by_primary = OrderProjection(client, settings)
        await _until_read(by_replica, numbers)
        kinds = (by_primary, by_replica, None)
        figures: dict[str, float] = {}
        for size in POLL_BATCHES:
            cpu_s: list[list[float]] = [[], [], []]
            for _ in range(TURNS):
                for turns_s, projection in zip(cpu_s, kinds, strict=True):
                    before_s = await _cpu_s(client)
                    await _turn(stock, sku, projection, numbers, size=size)
                    turns_s.append(await _cpu_s(client) - before_s)
            asked_s, spared_s, alone_s = map(statistics.median, cpu_s)
            figures[f"share_by_{size}"] = 1 - spared_s / asked_s
            figures[f"us_a_poll_by_{size}"] = 1e6 * (asked_s - spared_s) / POLLS
            figures[f"us_an_attempt_by_{size}"] = 1e6 * alone_s / ATTEMPTS
        return figures


async def _turn(
    stock: Stock,
    sku: str,
    projection: OrderProjection | None,
    numbers: Sequence[str],
    *,
    size: int,
) -> None:
    """Decide the attempts of a turn, and answer its polls meanwhile."""

    async def decide() -> None:
        for _ in range(ATTEMPTS // ATTEMPT_BATCH):
            items = [
                ReserveItem(user_id=uuid.uuid4().hex, request_id=uuid.uuid4().hex, quantity=1)
                for _ in range(ATTEMPT_BATCH)
            ]
            await stock.reserve(sku, items, timeout_s=TIMEOUT_S)

    async def poll() -> None:
        if projection is not None:
            for _ in range(POLLS // size):
                await projection.read(random.sample(numbers, size))

    await asyncio.gather(decide(), poll())


async def _until_read(projection: OrderProjection, numbers: Sequence[str]) -> None:
    ends_s = time.monotonic() + READY_S
    while (await projection.read(numbers[:1])).age_s is None:
        if time.monotonic() > ends_s:
            raise TimeoutError("no replica answers")
        await asyncio.sleep(0.1)


async def _cpu_s(client: "redis.asyncio.Redis") -> float:
    facts: Any = await client.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


async def _load(loader: SaleLoader, sku: str) -> None:
    terms = sale_pb2.SaleTerms(
        sku=sku,
        title="Benchmark",
        total_units=UNITS,
        purchase_limit=1,
        unit_price=sale_pb2.Money(currency="EUR", minor_units=100),
    )
    terms.payment_window.FromSeconds(600)
    terms.end_time.FromSeconds(int(time.time()) + 86_400)
    fields = to_fields(terms, now_ms=0)
    await loader.load(sku, fields, epoch=1, units=UNITS, timeout_s=TIMEOUT_S)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(replica_reads(Path(scratch)), indent=2))
