"""How long a sale stands still while its slot moves to another master of a Redis Cluster.

Deciders without a pause between their batches, as inventory's, on a cluster of three masters and
three replicas; the slot goes to another master and on, key by key and then as Valkey 9 does by
itself. A gap is the longest time between two batches that were answered.

`python -m bench.measures.slot_move` measures this alone.
"""

import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from devstack import ValkeyCluster
from devstack.slot_move import SlotMove
from inventory_svc.keys import sale_key
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.stock import Stock
from seckill.errors import SeckillError
from seckill.runtime.clock import SystemClock
from seckill.runtime.redis_client import open_redis
from seckill.runtime.redis_slots import slot_of
from seckill.runtime.store_settings import RedisSettings
from seckill.v1 import sale_pb2
from seckill.v1.inventory_pb2 import ReserveItem

DECIDERS = 8
BATCH = 32
UNITS = 100_000_000
# Buyers who hold something when the slot starts to move, and moves of each kind.
HELD, MOVES = 20_000, 5
TIMEOUT_S = 5.0
MOVE_TIMEOUT_S = 30.0


def slot_move(directory: Path) -> dict[str, float]:
    """Return gaps in milliseconds: the median and the longest of each way to move a slot."""
    with ValkeyCluster(directory / "slot-move") as cluster:
        return asyncio.run(_measure(cluster))


async def _measure(cluster: ValkeyCluster) -> dict[str, float]:
    settings = RedisSettings(redis_url=SecretStr(cluster.url), redis_cluster=True)
    async with open_redis(settings) as client:
        sku = f"bench-{uuid.uuid4().hex[:12]}"
        await _load(SaleLoader(client), sku)
        stock = Stock(
            client,
            clock=SystemClock(),
            rng=random.SystemRandom(),
            scripts_max=DECIDERS,
            waiting_max=DECIDERS,
            backlog_max=UNITS,
        )
        crowd = _Crowd(stock, sku)
        slot = slot_of([sale_key(sku)])
        found: dict[str, float] = {}
        async with asyncio.TaskGroup() as tasks:
            for _ in range(DECIDERS):
                tasks.create_task(crowd.decide())
            await crowd.until_decided(HELD)
            for name, move in (("by_keys", SlotMove.by_keys), ("at_once", SlotMove.at_once)):
                gaps_ms = [await crowd.gap_ms(cluster, slot, move) for _ in range(MOVES)]
                found[f"{name}_median"] = statistics.median(gaps_ms)
                found[f"{name}_longest"] = max(gaps_ms)
            crowd.is_over = True
        return found


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


class _Crowd:
    """Decides batch after batch, each of new buyers, and notes when."""

    def __init__(self, stock: Stock, sku: str) -> None:
        self._stock = stock
        self._sku = sku
        self._answered_s: list[float] = []
        self._has_decided = asyncio.Event()
        self.decided = 0
        self.is_over = False

    async def decide(self) -> None:
        while not self.is_over:
            items = [
                ReserveItem(user_id=uuid.uuid4().hex, request_id=uuid.uuid4().hex, quantity=1)
                for _ in range(BATCH)
            ]
            try:
                await self._stock.reserve(self._sku, items, timeout_s=TIMEOUT_S)
            except SeckillError:
                continue  # callers would come back; so does this one, at once
            self.decided += BATCH
            self._answered_s.append(time.monotonic())
            self._has_decided.set()

    async def until_decided(self, count: int) -> None:
        """Wait until so many attempts are decided in all."""
        while self.decided < count:
            self._has_decided.clear()
            await self._has_decided.wait()

    async def gap_ms(
        self, cluster: ValkeyCluster, slot: int, way: Callable[[SlotMove], object]
    ) -> float:
        move = await asyncio.to_thread(SlotMove, cluster, slot)
        self._answered_s.clear()
        await self.until_decided(self.decided + 10 * BATCH)
        await asyncio.to_thread(way, move)
        await asyncio.to_thread(move.wait, timeout_s=MOVE_TIMEOUT_S)
        await self.until_decided(self.decided + 10 * BATCH)
        times_s = sorted(self._answered_s)
        return 1000 * max(later - earlier for earlier, later in itertools.pairwise(times_s))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(slot_move(Path(scratch)), indent=2))
