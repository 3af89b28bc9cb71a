"""The verdict: Postgres, Redis and the buyers' own notes, read without asking any service."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import redis.asyncio

from deploy.local import Stores
from seckill.demo.scenario import Answer, Buyer

POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Books:
    """What the stores hold for one sale, in units unless it says otherwise.

    Attributes:
        remaining: the stock counter in Redis; -1 where the key is missing.
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
        """Units of the orders in these states."""
        return sum(quantity for _, _, state, quantity in self.orders if state in states)


async def read_books(stores: Stores, sku: str) -> Books:
    """Read the stores themselves."""
    client = redis.asyncio.Redis.from_url(stores.redis_url)
    connection = await asyncpg.connect(stores.postgres_dsn)
    try:
        stock = await client.get(f"seckill:stock:{{{sku}}}")
        backlog = await client.xlen(f"seckill:queue:{{{sku}}}")
        holds: list[Any] = await client.hvals(f"seckill:users:{{{sku}}}")
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
    return Books(
        remaining=-1 if stock is None else int(stock),
        backlog=backlog,
        live_holds=frozenset(hold[:26].decode() for hold in holds if not hold.startswith(b"-")),
        orders=tuple((row[0], row[1], row[2], row[3]) for row in orders),
        restored=int(restored),
    )


async def settle(stores: Stores, sku: str, *, timeout_s: float) -> Books:
    """Read until nothing is under way: no backlog, nothing pending, each hold has its order.

    After `timeout_s` the books are returned as they are: the verdict will say what is wrong.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        books = await read_books(stores, sku)
        live = {number for number, _, state, _ in books.orders if state in ("pending", "paid")}
        if books.backlog == 0 and not books.units("pending") and live == books.live_holds:
            return books
        if time.monotonic() > deadline_s:
            return books
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What must be zero.

    Attributes:
        oversold: units sold beyond the stock.
        lost: buyers who were told an order number that no row has, or PAID without a paid row.
        unaccounted: units that are neither left nor in a live order, attempts without an answer,
            and rows of buyers who were never told of them.
    """

    oversold: int
    lost: int
    unaccounted: int

    @property
    def clean(self) -> bool:
        """Whether every invariant holds."""
        return self.oversold == self.lost == self.unaccounted == 0


def judge(books: Books, *, stock: int, buyers: Sequence[Buyer]) -> Verdict:
    """Compare the books with the buyers' notes."""
    states = {number: state for number, _, state, _ in books.orders}
    live_units = books.units("pending", "paid")
    told = {buyer.order_no for buyer in buyers if buyer.order_no}
    told_paid = {buyer.order_no for buyer in buyers if buyer.paid}
    lost = sum(number not in states for number in told)
    lost += sum(states.get(number) not in ("paid", None) for number in told_paid)
    missing_units = abs(stock - max(books.remaining, 0) - live_units)
    unanswered = sum(buyer.answer in (Answer.NONE, Answer.FAILED) for buyer in buyers)
    untold = sum(number not in told for number in states)
    return Verdict(
        oversold=max(0, live_units - stock) + max(0, -books.remaining - 1),
        lost=lost,
        unaccounted=missing_units + unanswered + untold,
    )
