"""Stock of sales with any number of buckets: attempts go to their buyers' homes."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from inventory_svc import metrics
from inventory_svc.buckets.borrower import Borrower
from inventory_svc.buckets.layouts import Layouts
from inventory_svc.stock.stock import Decisions, Stock
from seckill.buckets import home_of
from seckill.errors import OutcomeUnknown, Overloaded, SaleNotLoaded, SeckillError
from seckill.runtime.clock import Clock
from seckill.runtime.recent import Recent
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReleaseItem, ReserveItem, ReserveResult

_SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
# Sales of several buckets whose units are remembered.
SALES_MAX = 1_024
T = TypeVar("T")


class BucketedStock:
    """Reserves and releases units, bucket by bucket; a sale of one bucket is Stock's alone."""

    def __init__(self, stock: Stock, *, layouts: Layouts, borrower: Borrower, clock: Clock) -> None:
        self._stock = stock
        self._layouts = layouts
        self._borrower = borrower
        self._clock = clock
        # Units of each bucket after its last batch here; None before it.
        self._left: Recent[str, list[int | None]] = Recent(SALES_MAX)

    async def reserve(
        self, sku: str, items: Sequence[ReserveItem], *, timeout_s: float
    ) -> Decisions:
        """Decide attempts: those of one bucket in order, of several side by side.

        Args:
            items: valid ones, at most 1,024.
            timeout_s: how long to wait for slots, for Redis, and for units of other buckets.

        Raises:
            SaleNotLoaded, Overloaded, DependencyUnavailable: nothing was reserved.
            OutcomeUnknown: some of it may have been.
        """
        ends_s = self._clock.monotonic_s() + timeout_s
        if len(self._layouts.tags(sku)) == 1:
            try:
                return await self._stock.reserve(sku, items, timeout_s=timeout_s)
            except SaleNotLoaded:
                # The keys of a sale with several buckets have other names.
                await self._layouts.learn([sku])
                if len(self._layouts.tags(sku)) == 1:
                    raise
        tags = self._layouts.tags(sku)
        places = _by_home([item.user_id for item in items], len(tags))
        found = await _all(
            [
                self._decide(sku, tags, home, [items[at] for at in indexes], ends_s=ends_s)
                for home, indexes in places.items()
            ]
        )
        results: list[ReserveResult] = [ReserveResult()] * len(items)
        for indexes, decisions in zip(places.values(), found, strict=True):
            for at, result in zip(indexes, decisions.results, strict=True):
                results[at] = result
        return Decisions(
            results=results,
            any_reserved=any(decisions.any_reserved for decisions in found),
            any_over_limit=any(decisions.any_over_limit for decisions in found),
            remaining_units=self._remaining(sku, len(tags), dict(zip(places, found, strict=True))),
        )

    async def release(
        self, sku: str, orders: Sequence[ReleaseItem], *, timeout_s: float
    ) -> list[int]:
        """Give units back to the homes of their buyers; as Stock.release."""
        if len(self._layouts.tags(sku)) == 1:
            try:
                return await self._stock.release(sku, orders, timeout_s=timeout_s)
            except SaleNotLoaded:
                await self._layouts.learn([sku])
                if len(self._layouts.tags(sku)) == 1:
                    raise
        tags = self._layouts.tags(sku)
        places = _by_home([order.user_id for order in orders], len(tags))
        found = await _all(
            [
                self._stock.release(
                    sku, [orders[at] for at in indexes], timeout_s=timeout_s, bucket=tags[home]
                )
                for home, indexes in places.items()
            ]
        )
        units = [0] * len(orders)
        for indexes, released in zip(places.values(), found, strict=True):
            for at, count in zip(indexes, released, strict=True):
                units[at] = count
        return units

    async def _decide(
        self,
        sku: str,
        tags: Sequence[str],
        home: int,
        items: Sequence[ReserveItem],
        *,
        ends_s: float,
    ) -> Decisions:
        """Decide attempts of one bucket's buyers; borrow for those that it has no units for."""
        decisions = await self._stock.reserve(
            sku, items, timeout_s=self._left_s(ends_s), bucket=tags[home]
        )
        results, any_reserved = decisions.results, decisions.any_reserved
        any_over_limit = decisions.any_over_limit
        while thirsty := [at for at, result in enumerate(results) if result.outcome == _SOLD_OUT]:
            need = min(items[at].quantity for at in thirsty)
            try:
                units = await self._borrower.fetch(
                    tags, home, need=need, timeout_s=self._left_s(ends_s)
                )
                if units < need:
                    metrics.ATTEMPTS_BY_OUTCOME[_SOLD_OUT].inc(len(thirsty))
                    break
                decisions = await self._stock.reserve(
                    sku,
                    [items[at] for at in thirsty],
                    timeout_s=self._left_s(ends_s),
                    bucket=tags[home],
                )
            except SeckillError as error:
                if any_reserved:
                    raise OutcomeUnknown("units of other buckets did not come") from error
                if isinstance(error, SaleNotLoaded):
                    raise SaleNotLoaded(metadata={"sku": sku}) from error
                raise
            any_reserved |= decisions.any_reserved
            any_over_limit |= decisions.any_over_limit
            for at, result in zip(thirsty, decisions.results, strict=True):
                results[at] = result
        return Decisions(
            results=results,
            any_reserved=any_reserved,
            any_over_limit=any_over_limit,
            remaining_units=decisions.remaining_units,
        )

    def _remaining(self, sku: str, buckets: int, decisions: dict[int, Decisions]) -> int | None:
        """Return the units of the whole sale, as far as the last batch of each bucket told."""
        left = self._left.get(sku) or [None] * buckets
        for home, decided in decisions.items():
            if decided.remaining_units is not None:
                left[home] = decided.remaining_units
        self._left.put(sku, left)
        known = [units for units in left if units is not None]
        return sum(known) if len(known) == buckets else None

    def _left_s(self, ends_s: float) -> float:
        left_s = ends_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise Overloaded("no units from other buckets within the deadline")
        return left_s


def _by_home(user_ids: Sequence[str], buckets: int) -> dict[int, list[int]]:
    """Return home → places of its buyers, in their order."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for at, user_id in enumerate(user_ids):
        places[home_of(user_id, buckets)].append(at)
    return places


async def _all(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Return what all calls return. If some fail and others do not, what they did is unknown."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    errors = [one for one in found if isinstance(one, BaseException)]
    done = [one for one in found if not isinstance(one, BaseException)]
    if not errors:
        return done
    unknown = next((error for error in errors if isinstance(error, OutcomeUnknown)), None)
    if unknown is not None or not done:
        raise unknown or errors[0]
    raise OutcomeUnknown("some buckets of the sale did not answer") from errors[0]
