"""The verdict: Postgres, Redis and the buyers' own notes, read without asking any service."""

import asyncio
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import redis.asyncio
from redis.asyncio.cluster import ClusterNode

from devstack import Stores
from seckill.runtime.bucket_tags import tags_of
from seckill_cli.demo.scenario import Notes

POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class StoreTotals:
    """What the stores hold for one sale, in units unless it says otherwise.

    Attributes:
        remaining: the stock counters in Redis, of all buckets, and what is on its way between
            them; -1 if a key is missing.
        backlog: reservations that are not in Kafka yet, in entries.
        live_holds: order numbers that Redis holds units for.
        orders: (order number, buyer, state, quantity) of each row in Postgres.
        restored: units of cancelled and rejected orders that were put back.
    """

    remaining: int
    backlog: int
    live_holds: frozenset[str]
    orders: tuple[tuple[str, str, str, int], ...]
    restored: int

    def units(self, *states: str) -> int:
        """Return the units of the orders in these states."""
        return sum(quantity for _, _, state, quantity in self.orders if state in states)


async def read_totals(stores: Stores, sku: str) -> StoreTotals:
    """Read the stores themselves."""
    client = _client(stores)
    connection = await asyncpg.connect(stores.postgres_dsn)
    try:
        tags = await sale_tags(client, sku)
        stocks: list[Any] = [await client.get(f"{prefix()}:stock:{{{tag}}}") for tag in tags]
        backlogs = [await client.xlen(f"{prefix()}:outbox:{{{tag}}}") for tag in tags]
        between = await _units_between(client, tags)
        holds: list[Any] = []
        for tag in tags:
            holds += await client.hvals(f"{prefix()}:users:{{{tag}}}")
        orders = await connection.fetch(
            "SELECT order_no, user_id, status::text, quantity FROM orders WHERE sku = $1", sku
        )
        restored = await connection.fetchval(
            "SELECT coalesce(sum(quantity), 0) FROM restore_outbox"
            " WHERE sku = $1 AND restored_at IS NOT NULL",
            sku,
        )
    finally:
        await connection.close()
        await client.aclose()
    return StoreTotals(
        remaining=-1 if None in stocks else sum(int(units or 0) for units in stocks) + between,
        backlog=sum(backlogs),
        live_holds=frozenset(hold[:26].decode() for hold in holds if not hold.startswith(b"-")),
        orders=tuple((row[0], row[1], row[2], row[3]) for row in orders),
        restored=int(restored),
    )


async def sale_tags(client: "redis.asyncio.Redis", sku: str) -> Sequence[str]:
    """Return the hash tags of a sale's buckets."""
    return tags_of(sku, int(await client.hget(f"{prefix()}:buckets", sku) or 1))


async def _units_between(client: "redis.asyncio.Redis", tags: Sequence[str]) -> int:
    """Count the units that have left one bucket and are not in another yet."""
    moved: list[Any] = [await client.hgetall(f"{prefix()}:transfers:{{{tag}}}") for tag in tags]
    units = 0
    for lender, borrower in itertools.permutations(range(len(tags)), 2):
        number, lent = map(int, moved[lender].get(f"out:{borrower}".encode(), b"0 0").split())
        taken = int(moved[borrower].get(f"in:{lender}".encode(), 0))
        units += lent if taken < number else 0
    return units


def prefix() -> str:
    """Return what all keys begin with: a mesh that was started here has our environment."""
    return os.environ.get("SECKILL_REDIS_PREFIX", "seckill")


def cluster_client(stores: Stores) -> "redis.asyncio.RedisCluster":
    """Return a client of a Redis Cluster: redis-py's own, another than the services have."""
    nodes = [node.partition(":") for node in stores.redis_url.rpartition("/")[2].split(",")]
    return redis.asyncio.RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, _, port in nodes],
        require_full_coverage=False,
    )


def _client(stores: Stores) -> "redis.asyncio.Redis":
    if stores.redis_cluster:
        # It has the same methods, and no class in common.
        return cast("redis.asyncio.Redis", cluster_client(stores))
    return redis.asyncio.Redis.from_url(stores.redis_url)


async def settle(stores: Stores, sku: str, *, timeout_s: float) -> StoreTotals:
    """Read until nothing is in flight: no backlog, nothing pending, each hold has its order.

    After `timeout_s` the totals are returned as they are: the verdict will say what is wrong.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        totals = await read_totals(stores, sku)
        live = {number for number, _, state, _ in totals.orders if state in ("pending", "paid")}
        if totals.backlog == 0 and not totals.units("pending") and live == totals.live_holds:
            return totals
        if time.monotonic() > deadline_s:
            return totals
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What must be zero.

    Attributes:
        oversold: units sold beyond the stock.
        lost: buyers who were told an order number that no row has, or PAID without a paid row.
        unaccounted: units that are neither left nor in a live order, and orders of buyers who
            were not told of them, though all their attempts were answered.
    """

    oversold: int
    lost: int
    unaccounted: int

    @property
    def clean(self) -> bool:
        """Whether every invariant holds."""
        return self.oversold == self.lost == self.unaccounted == 0


def judge(totals: StoreTotals, *, stock: int, notes: Sequence[Notes]) -> Verdict:
    """Compare what the stores hold with the buyers' notes."""
    states = {number: state for number, _, state, _ in totals.orders}
    live_units = totals.units("pending", "paid")
    told = {order_no for buyer in notes if (order_no := buyer.order_no)}
    told_paid = {buyer.order_no for buyer in notes if buyer.paid}
    lost = sum(number not in states for number in told)
    lost += sum(states.get(number) not in ("paid", None) for number in told_paid)
    missing_units = abs(stock - max(totals.remaining, 0) - live_units)
    in_doubt = {buyer.user_id for buyer in notes if buyer.in_doubt}
    untold = sum(
        number not in told and user_id not in in_doubt for number, user_id, _, _ in totals.orders
    )
    return Verdict(
        oversold=max(0, live_units - stock) + max(0, -totals.remaining - 1),
        lost=lost,
        unaccounted=missing_units + untold,
    )
