"""Who watches sales: a snapshot of all of them, kept fresh, and a stream of changes for each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import redis.asyncio
import structlog

from inventory_svc import metrics
from inventory_svc.keys import NOTICES
from inventory_svc.sales import Sales
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.redis_client import redis_faults
from seckill.v1 import inventory_pb2, sale_pb2

# Notices taken together: a sale that sells out and is restocked in turn is read once for many.
NOTICES_MAX = 1_000
log = structlog.get_logger()


class _Watcher:
    """One stream: what has changed since it was last served, at most one entry a sku."""

    def __init__(self, sales: dict[str, sale_pb2.Sale]) -> None:
        self.pending = dict(sales)
        self.changed = asyncio.Event()
        self.changed.set()


class SalesWatch:
    """Follows notices from Redis, reads everything once in a while, and tells all watchers."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        sales: Sales,
        *,
        clock: Clock,
        interval_s: float,
        first_timeout_s: float,
        streams_max: int,
    ) -> None:
        """Wire it.

        Args:
            interval_s: all sales are read this often.
            first_timeout_s: how long a stream waits for the first snapshot.
            streams_max: streams open at once; more are Overloaded.
        """
        self._redis = client
        self._sales = sales
        self._clock = clock
        self._interval_s = interval_s
        self._first_timeout_s = first_timeout_s
        self._streams_max = streams_max
        self._known: dict[str, sale_pb2.Sale] = {}
        self._synced = asyncio.Event()
        self._watchers: set[_Watcher] = set()
        self._closed = False

    async def run(self) -> None:
        """Follow Redis until cancelled; without Redis keep what is known and try again."""
        while True:
            try:
                await self._follow()
            except DependencyUnavailable as error:
                log.warning("sales are not watched", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def refresh(self, skus: list[str]) -> None:
        """Read these sales and tell the watchers what has changed."""
        for sale in await self._sales.read(skus):
            sku = sale.terms.sku
            if _visible(sale) != _visible(self._known.get(sku)):
                self._known[sku] = sale
                for watcher in self._watchers:
                    watcher.pending[sku] = sale
                    watcher.changed.set()

    def knows(self, sku: str) -> bool:
        """Whether this process has ever seen the sale."""
        return sku in self._known

    async def stream(self) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        """All sales, then what changes, until `close`.

        Raises:
            DependencyUnavailable: Redis has not been read since the start.
            Overloaded: too many streams are open.
        """
        if len(self._watchers) >= self._streams_max:
            raise Overloaded("too many streams are open")
        try:
            async with asyncio.timeout(self._first_timeout_s):
                await self._synced.wait()
        except TimeoutError as error:
            raise DependencyUnavailable("redis does not answer") from error
        watcher = _Watcher(self._known)
        self._watchers.add(watcher)
        metrics.watch_streams.inc()
        try:
            complete = True
            while not self._closed:
                await watcher.changed.wait()
                watcher.changed.clear()
                pending, watcher.pending = watcher.pending, {}
                if pending or complete:
                    yield inventory_pb2.WatchSalesResponse(
                        sales=pending.values(), complete=complete
                    )
                complete = False
        finally:
            self._watchers.discard(watcher)
            metrics.watch_streams.dec()

    def close(self) -> None:
        """End all streams, so that the server can drain."""
        self._closed = True
        for watcher in self._watchers:
            watcher.changed.set()

    async def _follow(self) -> None:
        async with aclosing(self._redis.pubsub()) as pubsub:
            with redis_faults():
                await pubsub.subscribe(NOTICES)
            next_full_s = 0.0
            while True:
                wait_s = next_full_s - self._clock.monotonic_s()
                if wait_s <= 0:
                    await self.refresh(sorted({*await self._sales.skus(), *self._known}))
                    self._synced.set()
                    next_full_s = self._clock.monotonic_s() + self._interval_s
                    continue
                noticed = await _notices(pubsub, wait_s)
                if noticed:
                    await self.refresh(sorted(noticed))


async def _notices(pubsub: Any, wait_s: float) -> set[str]:
    """Skus noticed within `wait_s`: the first one, and whatever has arrived with it."""
    skus: set[str] = set()
    with redis_faults():
        for _ in range(NOTICES_MAX):
            timeout_s = 0.0 if skus else wait_s
            notice = await pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
            if notice is None:
                break
            skus.add(notice["data"].decode())
    return skus


def _visible(sale: sale_pb2.Sale | None) -> bytes:
    """What a change of is worth telling: all but the count of remaining units."""
    if sale is None:
        return b""
    copy = sale_pb2.Sale()
    copy.CopyFrom(sale)
    copy.remaining_units = 0
    return copy.SerializeToString(deterministic=True)
