"""`python -m bench.scale.row_lock`: do consumers of one hot sale wait for its row?

Every transaction that writes orders of a sale locks the sale's row first (order_svc/intake). One to
three order services write the reservation events of one sale, and then of a sale for each; the
database is asked every few milliseconds who waits for whom. Writes results/row-lock.json.
"""

import asyncio
import json
import shutil
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from bench import report
from bench.baselines.producer import message
from bench.cores import Meter
from bench.mesh import Mesh
from bench.quiet import reason
from devstack import create_topics
from devstack.mesh import DEAD_LETTER_PARTITIONS, ORDERS_PARTITIONS
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_writer import KafkaWriter

RESULTS = Path(__file__).parents[1] / "results" / "row-lock.json"
CONSUMERS = (1, 2, 3)
ORDERS = 30_000
# Written before anything counts: every consumer has partitions then.
FIRST = 3_000
LOOK_S = 0.003
TIMEOUT_S = 90.0
# What a writer does at the moment of a look; the view's own row is left out.
WRITERS = """
SELECT count(*) FILTER (WHERE state <> 'idle') AS open,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS locked,
       count(*) FILTER (WHERE wait_event_type = 'IO'
                           OR wait_event IN ('WALSync', 'WALWrite')) AS disk,
       count(*) FILTER (WHERE state = 'active' AND wait_event IS NULL) AS running,
       count(*) FILTER (WHERE state = 'idle in transaction') AS idle
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND query ~* '(lock_sales|FOR NO KEY UPDATE|INSERT INTO orders|unnest|COMMIT)'
"""


@dataclass(frozen=True)
class Message:
    """A message for Kafka."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None


class Case:
    """Events of some sales, and consumers that write them."""

    def __init__(self, mesh: Mesh, *, consumers: int, sales: int) -> None:
        self._mesh = mesh
        self._consumers = consumers
        self._sales = sales
        self._topic = f"row-lock-{uuid.uuid4().hex[:12]}"

    def run(self) -> dict[str, Any]:
        """Return what was seen."""
        skus = [f"row-{uuid.uuid4().hex[:12]}" for _ in range(self._sales)]
        for sku in skus:
            self._mesh.create_sale(sku, units=FIRST + ORDERS, starts_s=time.time() - 1)
        topics = {self._topic: ORDERS_PARTITIONS, f"{self._topic}.dlq": DEAD_LETTER_PARTITIONS}
        asyncio.run(create_topics(self._mesh.stores.kafka_bootstrap, topics))
        settings = {
            "SECKILL_ORDERS_TOPIC": self._topic,
            "SECKILL_DEAD_LETTER_TOPIC": f"{self._topic}.dlq",
            "SECKILL_ORDER_CONSUMER_GROUP": self._topic,
        }
        with ExitStack() as exits:
            for _ in range(self._consumers):
                exits.enter_context(self._mesh.further("order", settings))
            return asyncio.run(self._write(skus))

    async def _write(self, skus: list[str]) -> dict[str, Any]:
        cluster = KafkaCluster(self._mesh.stores.kafka_bootstrap)
        # As the relay of a busy inventory service sends them.
        writer = KafkaWriter(cluster, timeout_s=30.0, batch_records_max=500)
        connection = await asyncpg.connect(self._mesh.stores.postgres_dsn)
        try:
            tag = uuid.uuid4().hex[:8]
            start = int(time.time() * 1000) * 100_000
            await writer.deliver(self._topic, _messages(skus, start, FIRST, tag))
            await self._until(connection, skus, FIRST)
            meter = Meter()
            await writer.deliver(self._topic, _messages(skus, start + FIRST, ORDERS, tag))
            written = await self._sold(connection, skus)
            start_s = time.monotonic()
            looks = await self._watch(connection, skus)
            seconds = time.monotonic() - start_s
        finally:
            await connection.close()
            await writer.close()
        count = max(1, looks.pop("looks"))
        return {
            "consumers": self._consumers,
            "sales": self._sales,
            "orders_per_s": round((FIRST + ORDERS - written) / seconds),
            "transactions": {name: round(seen / count, 3) for name, seen in looks.items()},
            "looks": count,
            "unfit": reason(meter.read()),
        }

    async def _watch(self, connection: asyncpg.Connection, skus: list[str]) -> dict[str, int]:
        """Look until all are written; return what was seen, summed over the looks."""
        seen = {"looks": 0, "open": 0, "locked": 0, "disk": 0, "running": 0, "idle": 0}
        ends_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < ends_s:
            for _ in range(10):
                row = await connection.fetchrow(WRITERS)
                seen["looks"] += 1
                for name, count in row.items():
                    seen[name] += count
                await asyncio.sleep(LOOK_S)
            if await self._sold(connection, skus) >= FIRST + ORDERS:
                return seen
        raise TimeoutError("not all orders were written")

    async def _until(self, connection: asyncpg.Connection, skus: list[str], count: int) -> None:
        ends_s = time.monotonic() + TIMEOUT_S
        while await self._sold(connection, skus) < count:
            if time.monotonic() > ends_s:
                raise TimeoutError("the consumers write nothing")
            await asyncio.sleep(LOOK_S)

    @staticmethod
    async def _sold(connection: asyncpg.Connection, skus: list[str]) -> int:
        query = "SELECT sum(sold)::bigint FROM sales WHERE sku = ANY ($1)"
        return int(await connection.fetchval(query, skus))


def _messages(skus: list[str], start: int, count: int, tag: str) -> list[Message]:
    """Return events in record batches of one sale each, in turn."""
    found = []
    for number in range(count):
        sku = skus[number // 500 % len(skus)]
        key, value = message(start + number, sku=sku, tag=tag)
        found.append(Message(key, value, []))
    return found


def main() -> int:
    """Measure, write, print; return the exit status."""
    directory = Path(tempfile.mkdtemp(prefix="seckill-row-lock-"))
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
    }
    found = []
    try:
        with Mesh(directory) as mesh:
            for sales in (1, max(CONSUMERS)):
                for consumers in CONSUMERS:
                    found.append(Case(mesh, consumers=consumers, sales=sales).run())
                    print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    RESULTS.write_text(json.dumps({"cases": found, **facts}, indent=2) + "\n")
    print(f"written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
