"""Adds orders to the delay set, and those that Redis does not take as soon as it does."""

import asyncio
from collections.abc import Mapping
from itertools import islice

import structlog

from order_svc import metrics
from seckill.errors import DependencyUnavailable
from seckill.runtime.delay import DelaySet
from seckill.runtime.retry import until_success

# Orders that are kept, about 150 bytes each. What is left out then is found by the sweep of the
# database, as what a process has kept when it ends.
LATE_MAX = 100_000
BATCH_MAX = 1_000
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0
log = structlog.get_logger()


class DelayWriter:
    """Writes the delay set without making orders wait for Redis."""

    def __init__(self, delays: DelaySet, *, late_max: int = LATE_MAX) -> None:
        """`late_max`: orders kept in memory while Redis takes no writes."""
        self._delays = delays
        self._late_max = late_max
        self._late: dict[str, float] = {}
        self._some = asyncio.Event()

    async def add(self, expire_times_s: Mapping[str, float]) -> bool:
        """Add orders: order number → Unix time in seconds; return whether Redis has them.

        Nobody waits for a Redis that is full or away: the database has the orders, answers polls,
        and is asked for expired orders that the delay set does not have.
        """
        if not self._late:
            try:
                await self._delays.add(expire_times_s)
            except DependencyUnavailable as error:
                log.warning("delay set not written", orders=len(expire_times_s), error=str(error))
            else:
                return True
        self._keep(expire_times_s)
        return False

    def _keep(self, expire_times_s: Mapping[str, float]) -> None:
        room = self._late_max - len(self._late)
        self._late.update(islice(expire_times_s.items(), max(0, room)))
        metrics.DELAY_FAILURES_TOTAL.inc(len(expire_times_s))
        self._some.set()

    async def run(self) -> None:
        """Add what was kept, again and again until Redis takes it, until cancelled."""
        while True:
            await self._some.wait()
            async for attempt in until_success(
                "late orders into the delay set",
                on=DependencyUnavailable,
                wait_min_s=RETRY_MIN_S,
                wait_max_s=RETRY_MAX_S,
            ):
                with attempt:
                    await self._add_late()

    async def _add_late(self) -> None:
        added = 0
        while self._late:
            some = dict(islice(self._late.items(), BATCH_MAX))
            await self._delays.add(some)
            for order_no in some:
                del self._late[order_no]
            added += len(some)
        self._some.clear()
        if added:
            log.info("late orders are in the delay set", orders=added)
