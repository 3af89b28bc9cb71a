"""Stock on a Redis of the test's own, and what the tests of inventory_svc say about it."""

import random
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from inventory_svc.keys import queue_key, stock_key, users_key
from inventory_svc.sales import Sales, to_fields
from inventory_svc.stock import Stock
from inventory_svc.upkeep import StockUpkeep
from seckill.clock import SystemClock
from seckill.v1 import inventory_pb2, sale_pb2
from seckill.v1.inventory_pb2 import ReserveItem
from tests.factories import new_id, sale_terms

TIMEOUT_S = 5.0


class StockKit:
    """A client, stock and sales on one Redis."""

    def __init__(self, url: str, *, backlog_max: int = 100_000) -> None:
        self.redis = redis.asyncio.Redis.from_url(url, max_connections=64)
        self.sales = Sales(self.redis)
        self.upkeep = StockUpkeep(self.redis)
        self.stock = Stock(
            self.redis,
            clock=SystemClock(),
            rng=random.SystemRandom(),
            scripts_max=8,
            waiting_max=20_000,
            backlog_max=backlog_max,
        )

    async def close(self) -> None:
        """Disconnect."""
        await self.redis.aclose()

    async def load(self, terms: sale_pb2.SaleTerms | None = None, *, epoch: int = 1) -> str:
        """Load a sale and answer its sku."""
        terms = terms or sale_terms()
        await self.sales.remember(terms.sku)
        await self.upkeep.load(
            terms.sku,
            to_fields(terms),
            epoch=epoch,
            units=terms.total_units,
            timeout_s=TIMEOUT_S,
        )
        return terms.sku

    async def reserve(
        self, sku: str, *items: ReserveItem
    ) -> list[tuple[inventory_pb2.PurchaseOutcome.ValueType, str]]:
        """(outcome, order number) of each attempt, decided as one batch."""
        decisions = await self.stock.reserve(sku, items, timeout_s=TIMEOUT_S)
        return [(result.outcome, result.order_no) for result in decisions.results]

    async def release(self, sku: str, *orders: tuple[str, str]) -> Sequence[int]:
        """Units given back for each (order number, user)."""
        return await self.stock.release(sku, orders, timeout_s=TIMEOUT_S)

    async def left(self, sku: str) -> int:
        """Units nobody holds."""
        return int(await self.redis.get(stock_key(sku)) or -1)

    async def queued(self, sku: str) -> int:
        """Entries in the outbox."""
        return int(await self.redis.xlen(queue_key(sku)))

    async def held(self, sku: str) -> int:
        """Buyers with a live hold."""
        holds: list[Any] = await self.redis.hvals(users_key(sku))
        return sum(not hold.startswith(b"-") for hold in holds)


def attempt(user_id: str = "", *, request_id: str = "", quantity: int = 1) -> ReserveItem:
    """An attempt to buy, by somebody new unless told otherwise."""
    return ReserveItem(
        user_id=user_id or new_id("buyer"),
        request_id=request_id or new_id("request"),
        quantity=quantity,
    )
