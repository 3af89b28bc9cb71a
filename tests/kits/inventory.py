"""Stock on a Redis of the test's own, and what the tests of inventory_svc say about it."""

import random
from collections.abc import Sequence
from typing import Any, cast

from inventory_svc.keys import (
    BATCH_FIELD,
    SINGLE_FIELD,
    backlog_key,
    outbox_key,
    stock_key,
    users_key,
)
from inventory_svc.outbox.backlog import FIELDS, reservations_waiting
from inventory_svc.outbox.entry import Entry
from inventory_svc.outbox.streams import outboxes_of
from inventory_svc.sales.fields import to_fields
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.hold import parse_hold
from inventory_svc.stock.loader import SaleLoader
from inventory_svc.stock.stock import Stock
from seckill.runtime.clock import SystemClock
from seckill.v1 import inventory_pb2, sale_pb2
from seckill.v1.inventory_pb2 import ReleaseItem, ReserveItem
from tests.kits.factories import new_id, sale_terms
from tests.kits.stores import client_of

TIMEOUT_S = 5.0


class StockKit:
    """A client, stock and sales on one Redis."""

    def __init__(self, url: str, *, backlog_max: int = 100_000) -> None:
        self.redis = client_of(url)
        self.sales = Sales(self.redis)
        self.loader = SaleLoader(self.redis)
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
        await self.loader.load(
            terms.sku,
            to_fields(terms, now_ms=0),
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

    async def release(
        self, sku: str, *orders: tuple[str, str], rejected: bool = False
    ) -> Sequence[int]:
        """Units given back for each (order number, user); `rejected`: by the mesh, all of them."""
        items = [
            ReleaseItem(order_no=order_no, user_id=user_id, rejected=rejected)
            for order_no, user_id in orders
        ]
        return await self.stock.release(sku, items, timeout_s=TIMEOUT_S)

    async def left(self, sku: str) -> int:
        """Units that are not held."""
        return int(await self.redis.get(stock_key(sku)) or -1)

    async def entries(self, sku: str) -> list[Entry]:
        """Entries in the outboxes, whichever version wrote them."""
        return [
            Entry(
                outbox,
                entry_id,
                fields.get(BATCH_FIELD) or fields.get(SINGLE_FIELD),
                batch=BATCH_FIELD in fields,
            )
            for outbox in outboxes_of(sku)
            for entry_id, fields in cast("Any", await self.redis.xrange(outbox))
        ]

    async def queued(self, sku: str) -> int:
        """Reservations in the outboxes."""
        return sum(entry.reservations for entry in await self.entries(sku))

    async def counted(self, sku: str) -> int:
        """Reservations in the outbox, as the scripts count them without reading it."""
        length = await self.redis.xlen(outbox_key(sku))
        return reservations_waiting(
            length, cast("Any", await self.redis.hmget(backlog_key(sku), FIELDS))
        )

    async def held(self, sku: str) -> int:
        """Buyers with a live hold."""
        holds: Any = await self.redis.hgetall(users_key(sku))
        return sum(not parse_hold(user, text).released for user, text in holds.items())


def attempt(user_id: str = "", *, request_id: str = "", quantity: int = 1) -> ReserveItem:
    """An attempt to buy, by a new buyer unless told otherwise."""
    return ReserveItem(
        user_id=user_id or new_id("buyer"),
        request_id=request_id or new_id("request"),
        quantity=quantity,
    )
