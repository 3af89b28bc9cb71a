"""Stock: reserve.lua and release.lua as functions; what their integers mean is known here only."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from inventory_svc import metrics
from inventory_svc.keys import asked_key, queue_key, sale_key, stock_key, users_key
from inventory_svc.scripts import AT_ONCE, RELEASE, RESERVE, Confirmation, ScriptRunner
from seckill.clock import Clock
from seckill.errors import Overloaded, SaleNotLoaded
from seckill.order_no import make_order_nos
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReserveItem, ReserveResult

# Codes of reserve.lua.
_OUTCOMES = {
    1: inventory_pb2.PURCHASE_OUTCOME_RESERVED,
    2: inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT,
    3: inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED,
    4: inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED,
    5: inventory_pb2.PURCHASE_OUTCOME_ENDED,
    6: inventory_pb2.PURCHASE_OUTCOME_PAUSED,
    7: inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED,
    8: inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED,
}
_RESERVED, _OVER_LIMIT = 1, 8
_NOT_LOADED, _BACKLOG_FULL = -1, -2
# Answers without an order number are all alike; copied into the response, never changed.
_WITHOUT_ORDER = {code: ReserveResult(outcome=outcome) for code, outcome in _OUTCOMES.items()}


@dataclass(frozen=True, slots=True)
class Decisions:
    """What reserve.lua decided about a batch."""

    # In the order of the attempts.
    results: list[ReserveResult]
    # Units were reserved, or had been before: there may be work for the relay.
    any_reserved: bool
    # An attempt asked for more than the sale's purchase limit.
    any_over_limit: bool


class Stock:
    """Reserves and releases units; but for upkeep.py the only writer of holds and of stock."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        clock: Clock,
        rng: random.Random,
        scripts_max: int,
        waiting_max: int,
        backlog_max: int,
        confirm: Confirmation = AT_ONCE,
    ) -> None:
        """Wire it.

        Args:
            rng: makes order numbers differ; seeded by the system in production.
            scripts_max: runs of a script under way at once.
            waiting_max: calls that may wait for a run; more are Overloaded.
            backlog_max: outbox entries of a sale at which reservations are Overloaded.
            confirm: what replicas must confirm before a reservation is answered as such.
        """
        self._scripts = ScriptRunner(client)
        self._clock = clock
        self._rng = rng
        self._slots = asyncio.Semaphore(scripts_max)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._backlog_max = backlog_max
        self._confirm = confirm

    async def reserve(
        self, sku: str, items: Sequence[ReserveItem], *, timeout_s: float
    ) -> Decisions:
        """Decide attempts in order, in one atomic step.

        Args:
            items: valid ones, at most 1,024.
            timeout_s: how long to wait for a slot and for Redis.

        Raises:
            SaleNotLoaded: the sale's keys are missing, or there is no such sale.
            Overloaded: the outbox is at its cap, or too many calls wait.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        user_ids = [item.user_id for item in items]
        args: list[Any] = [None] * (2 + 4 * len(user_ids))
        args[0], args[1] = sku, self._backlog_max
        args[2::4] = user_ids
        args[3::4] = [item.request_id for item in items]
        args[4::4] = [item.quantity for item in items]
        args[5::4] = make_order_nos(user_ids, now_s=self._clock.now_s(), rng=self._rng)
        keys = (sale_key(sku), stock_key(sku), users_key(sku), queue_key(sku))
        async with self._slot(timeout_s) as left_s:
            reply = await self._scripts.run(
                RESERVE,
                keys,
                args,
                timeout_s=left_s,
                confirm=self._confirm,
                marker=asked_key(sku),
                promises=_promises,
            )
        _check_status(reply[0], sku)
        return _decisions(reply[1::2], reply[2::2])

    async def release(
        self, sku: str, orders: Iterable[tuple[str, str]], *, timeout_s: float
    ) -> list[int]:
        """Give units back.

        Args:
            orders: at most 1,024 pairs of order number and user.
            timeout_s: how long to wait for a slot and for Redis.

        Returns:
            Units given back for each order: 0 where the buyer's hold does not name it.

        Raises:
            SaleNotLoaded: the sale's keys are missing, or there is no such sale.
            Overloaded: too many calls wait.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        args = [sku, *(text for order in orders for text in order)]
        keys = (sale_key(sku), stock_key(sku), users_key(sku))
        async with self._slot(timeout_s) as left_s:
            reply = await self._scripts.run(RELEASE, keys, args, timeout_s=left_s)
        _check_status(reply[0], sku)
        units: list[int] = reply[1:]
        metrics.released_units.inc(sum(units))
        return units

    @asynccontextmanager
    async def _slot(self, timeout_s: float) -> AsyncIterator[float]:
        """Wait for one of the bounded runs; yields the seconds left of `timeout_s`."""
        if self._waiting >= self._waiting_max:
            raise Overloaded("too many calls wait for redis")
        begun_s = self._clock.monotonic_s()
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Overloaded("no turn at redis within the deadline") from error
        finally:
            self._waiting -= 1
        try:
            yield max(0.0, timeout_s - (self._clock.monotonic_s() - begun_s))
        finally:
            self._slots.release()


def _check_status(status: int, sku: str) -> None:
    if status == _NOT_LOADED:
        raise SaleNotLoaded(metadata={"sku": sku})
    if status == _BACKLOG_FULL:
        raise Overloaded("too many reservations wait for kafka", metadata={"sku": sku})


def _promises(reply: list[Any]) -> bool:
    """Whether a reply of reserve.lua tells anybody that units are held for him.

    Also where they were reserved before: the first answer may have been "unknown" because replicas
    did not confirm it.
    """
    return _RESERVED in reply[1::2]


def _decisions(codes: list[int], order_nos: list[bytes]) -> Decisions:
    counts = Counter(codes)
    metrics.batch_items.observe(len(codes))
    for code, count in counts.items():
        metrics.attempts_by_outcome[_OUTCOMES[code]].inc(count)
    results = [
        ReserveResult(outcome=_OUTCOMES[code], order_no=order_no.decode())
        if order_no
        else _WITHOUT_ORDER[code]
        for code, order_no in zip(codes, order_nos, strict=True)
    ]
    return Decisions(
        results=results,
        any_reserved=_RESERVED in counts,
        any_over_limit=_OVER_LIMIT in counts,
    )
