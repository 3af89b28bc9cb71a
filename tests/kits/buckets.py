"""Sales of several buckets on one Redis, and single steps of their transfers."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from inventory_svc.buckets.borrower import Borrower
from inventory_svc.buckets.layouts import Layouts
from inventory_svc.buckets.standing import Standings
from inventory_svc.buckets.stock import BucketedStock
from inventory_svc.buckets.transfers import BLOCK_MAX, Transfers
from inventory_svc.keys import sale_key, stock_key, transfers_key
from inventory_svc.sales.fields import to_fields
from inventory_svc.sales.rebuild import shares
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import LEND, SETTLE, TAKE
from seckill.buckets import home_of
from seckill.runtime.clock import SystemClock
from seckill.v1 import inventory_pb2, sale_pb2
from seckill.v1.inventory_pb2 import ReleaseItem, ReserveItem
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit

# Number and units of a transfer.
Lent = tuple[int, int]


class BucketKit(StockKit):
    """Stock of sales of any number of buckets, as one replica has it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url
        self.layouts = Layouts(self.redis)
        self.sales = Sales(self.redis, self.layouts)
        transfers = Transfers(self.redis, redis_timeout_s=TIMEOUT_S)
        self.borrower = Borrower(Standings(self.redis), transfers)
        self.bucketed = BucketedStock(
            self.stock, layouts=self.layouts, borrower=self.borrower, clock=SystemClock()
        )
        self._scripts = runner_of(self.redis)

    async def load(
        self, terms: sale_pb2.SaleTerms | None = None, *, epoch: int = 1, buckets: int = 4
    ) -> str:
        """Load a sale and answer its sku."""
        terms = terms or sale_terms()
        await self.sales.remember(terms.sku)
        await self.layouts.note({terms.sku: buckets})
        await self.load_buckets(terms.sku, terms, buckets=buckets, epoch=epoch)
        return terms.sku

    async def load_buckets(
        self, sku: str, terms: sale_pb2.SaleTerms, *, buckets: int, epoch: int
    ) -> list[bool]:
        """Load all buckets; whether each was loaded now."""
        terms.buckets = buckets
        tags = self.layouts.tags(sku)
        return [
            await self.loader.load(
                sku,
                to_fields(terms, now_ms=0),
                epoch=epoch,
                units=units,
                timeout_s=TIMEOUT_S,
                bucket=tag if buckets > 1 else "",
            )
            for tag, units in zip(tags, shares(terms.total_units, buckets), strict=True)
        ]

    async def reserve(
        self, sku: str, *items: ReserveItem
    ) -> list[tuple[inventory_pb2.PurchaseOutcome.ValueType, str]]:
        """(outcome, order number) of each attempt."""
        decisions = await self.bucketed.reserve(sku, items, timeout_s=TIMEOUT_S)
        return [(result.outcome, result.order_no) for result in decisions.results]

    async def release(
        self, sku: str, *orders: tuple[str, str], rejected: bool = False
    ) -> Sequence[int]:
        """Units given back for each (order number, user)."""
        items = [
            ReleaseItem(order_no=order_no, user_id=user_id, rejected=rejected)
            for order_no, user_id in orders
        ]
        return await self.bucketed.release(sku, items, timeout_s=TIMEOUT_S)

    async def units(self, sku: str) -> list[int]:
        """Units that are not held, bucket by bucket."""
        return [int(await self.redis.get(stock_key(tag)) or 0) for tag in self.layouts.tags(sku)]

    async def step_lend(self, tags: Sequence[str], lender: int, borrower: int) -> Lent:
        """Have one unit or half of them leave a bucket."""
        _, number, units = await self._run(LEND, tags[lender], [borrower, 1, 1, BLOCK_MAX])
        return number, units

    async def step_take(self, tags: Sequence[str], lender: int, borrower: int, lent: Lent) -> None:
        """Have units arrive that were lent under the epoch 1."""
        await self._run(TAKE, tags[borrower], [lender, 1, *lent])

    async def step_settle(
        self, tags: Sequence[str], lender: int, borrower: int, lent: Lent
    ) -> None:
        """Take a transfer off the record."""
        keys = (sale_key(tags[lender]), transfers_key(tags[lender]))
        await self._scripts.run(SETTLE, keys, [borrower, 1, lent[0]], timeout_s=TIMEOUT_S)

    async def commands(self) -> dict[str, int]:
        """How often each command was called."""
        found: Any = await self.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): facts["calls"] for name, facts in found.items()}

    async def _run(self, script: Any, tag: str, args: Sequence[str | int]) -> list[Any]:
        keys = (sale_key(tag), stock_key(tag), transfers_key(tag))
        return await self._scripts.run(script, keys, args, timeout_s=TIMEOUT_S)


def buyer_at(home: int, buckets: int) -> str:
    """A new buyer whose home is that bucket."""
    return next(user for _ in count() if home_of(user := new_id("buyer"), buckets) == home)
