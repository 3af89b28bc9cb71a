"""Brings units to a bucket that has run out, and tells when the whole sale has."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from inventory_svc.buckets.standing import Standing, Standings
from inventory_svc.buckets.transfers import Transfers
from seckill.errors import DependencyUnavailable, Overloaded, SaleNotLoaded

# Transfers for one bucket in a row. Each takes half of what the richest neighbour has, or all that
# is needed; more follow one another only while others take as much away.
TRANSFERS_MAX = 64


@dataclass(slots=True)
class _Fetch:
    """What those who wait for units of one bucket need: the fewest units, and the most."""

    least: int
    most: int
    task: "asyncio.Task[int] | None" = None

    def join(self, need: int) -> None:
        self.least, self.most = min(self.least, need), max(self.most, need)


class Borrower:
    """Borrows for buckets, at most once at a time for each.

    Who needs units while that goes on shares the next time: what it finds was so after they came.
    """

    def __init__(self, standings: Standings, transfers: Transfers) -> None:
        self._standings = standings
        self._transfers = transfers
        # By tag. Bounded by the buckets for which calls wait.
        self._running: dict[str, asyncio.Task[int]] = {}
        self._next: dict[str, _Fetch] = {}

    async def fetch(self, tags: Sequence[str], home: int, *, need: int, timeout_s: float) -> int:
        """Have units brought to a bucket.

        Args:
            tags: of the sale's buckets.
            home: the bucket.
            need: units that one attempt needs.
            timeout_s: how long to wait; it goes on without the caller.

        Returns:
            Units of the whole sale that are not held: fewer than `need` if it is certain that there
            were no more at a moment since the call. Else there may be as many in the bucket now,
            and others may take them.

        Raises:
            Overloaded: not within `timeout_s`, or others take away what comes.
            SaleNotLoaded: a bucket is not loaded, and the others have too few.
            DependencyUnavailable, OutcomeUnknown: a node does not answer, and the others have too
                few.
        """
        tag = tags[home]
        fetch = self._next.get(tag)
        if fetch is None:
            fetch = self._next[tag] = _Fetch(need, need)
            fetch.task = asyncio.create_task(self._take_turn(tags, home, fetch), name="borrow")
            # Its callers may all be gone by then.
            fetch.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        fetch.join(need)
        assert fetch.task is not None  # noqa: S101 - set with it
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(fetch.task)
        except TimeoutError as error:
            raise Overloaded("no units from other buckets within the deadline") from error

    async def _take_turn(self, tags: Sequence[str], home: int, fetch: _Fetch) -> int:
        tag = tags[home]
        before = self._running.get(tag)
        if before is not None:
            await asyncio.wait([before])
        # From here on others are too late to know that it has looked after they came.
        del self._next[tag]
        assert fetch.task is not None  # noqa: S101 - set with it
        self._running[tag] = fetch.task
        try:
            return await self.bring(tags, home, least=fetch.least, most=fetch.most)
        finally:
            if self._running.get(tag) is fetch.task:
                del self._running[tag]

    async def bring(self, tags: Sequence[str], home: int, *, least: int, most: int) -> int:
        """Borrow until a bucket has `least` units, or the sale has fewer.

        Args:
            most: that there are fewer units than this is told for certain.

        Returns:
            Units of the whole sale that are not held; as `fetch`.

        Raises:
            As `fetch`.
        """
        for _ in range(TRANSFERS_MAX):
            standing, is_certain = await self._standings.read_still(tags, below=most)
            missing = least - standing.buckets[home].units
            if not is_certain:
                continue
            if missing <= 0:
                return standing.units
            if standing.units < least:
                _require_all(standing)
                return standing.units
            lender, borrower = _next_transfer(standing, home)
            epoch = standing.buckets[home].epoch
            came = await self._transfers.move(tags, lender, borrower, epoch=epoch, need=missing)
            if borrower == home and came >= missing:
                return standing.units
        raise Overloaded("other buckets take the units away")


def _require_all(standing: Standing) -> None:
    """Raise unless all buckets are there: those that are have too few units."""
    if not standing.is_reachable:
        raise DependencyUnavailable("a bucket of the sale is on a node that does not answer")
    if not standing.is_loaded:
        raise SaleNotLoaded


def _next_transfer(standing: Standing, home: int) -> tuple[int, int]:
    """Return who lends to whom next so that `home` gets units: (lender, borrower).

    What is on its way to it; else from the bucket that has most; else what is on its way elsewhere,
    which can be borrowed from there.
    """
    buckets = standing.buckets
    if not buckets[home].epoch:
        _require_all(standing)
    on_the_way = sorted(standing.transfers, key=lambda transfer: transfer.borrower != home)
    if on_the_way and on_the_way[0].borrower == home:
        return on_the_way[0].lender, home
    lenders = [
        number
        for number, bucket in enumerate(buckets)
        if number != home and bucket.epoch == buckets[home].epoch
    ]
    richest = max(lenders, key=lambda number: buckets[number].units, default=home)
    if richest != home and buckets[richest].units > 0:
        return richest, home
    if on_the_way:
        return on_the_way[0].lender, on_the_way[0].borrower
    _require_all(standing)
    raise Overloaded("units of the sale are on their way")
