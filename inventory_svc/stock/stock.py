"""Stock: reserve.lua and release.lua as functions; their integers are known here only."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import redis.asyncio

from inventory_svc import metrics
from inventory_svc.keys import (
    backlog_key,
    outbox_key,
    past_key,
    replication_marker_key,
    sale_key,
    stock_key,
    users_key,
)
from inventory_svc.stock.request_skus import RequestSkus
from inventory_svc.stock.runners import runner_of
from inventory_svc.stock.scripts import (
    AT_ONCE,
    RELEASE,
    RESERVE,
    UNGUARDED,
    Confirmation,
    Guard,
)
from seckill.errors import Overloaded, SaleNotLoaded
from seckill.order_no import make_order_nos
from seckill.runtime import request_ids, tracing
from seckill.runtime.clock import Clock
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReleaseItem, ReserveItem, ReserveResult

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
    9: inventory_pb2.PURCHASE_OUTCOME_OTHER_QUANTITY,
}
_RESERVED, _SOLD_OUT, _ENDED, _OVER_LIMIT = 1, 2, 5, 8
_NOT_LOADED, _BACKLOG_FULL = -1, -2
# Answers without an order number are all alike; copied into the response, never changed.
_OTHER_SKU = ReserveResult(outcome=inventory_pb2.PURCHASE_OUTCOME_OTHER_SKU)
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
    # Units that were not held after it; None if the script was not asked.
    remaining_units: int | None = None


_NOTHING_DECIDED = Decisions(results=[], any_reserved=False, any_over_limit=False)


class Stock:
    """Reserves and releases units; but for loader.py the only writer of holds and of stock."""

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
        guard: Guard = UNGUARDED,
    ) -> None:
        """Describe it.

        Args:
            rng: makes order numbers differ; seeded by the system in production.
            scripts_max: runs of a script in flight at once.
            waiting_max: calls that may wait for a run; more are Overloaded.
            backlog_max: reservations in a sale's outbox at which further ones are Overloaded.
            confirm: what replicas must confirm before a reservation is answered as such.
            guard: which servers may promise units.
        """
        self._scripts = runner_of(client, guard=guard)
        self._clock = clock
        self._rng = rng
        self._slots = asyncio.Semaphore(scripts_max)
        self._waiting = 0
        self._waiting_max = waiting_max
        self._backlog_max = backlog_max
        self._confirm = confirm
        self._request_skus = RequestSkus()

    async def reserve(
        self, sku: str, items: Sequence[ReserveItem], *, timeout_s: float, bucket: str = ""
    ) -> Decisions:
        """Decide attempts in order, in one atomic step.

        Args:
            items: valid ones, at most 1,024.
            timeout_s: how long to wait for a slot and for Redis.
            bucket: tag of the one that is the home of all these buyers, if the sale has several.
                Then "sold out" is of this bucket, and not counted yet.

        Raises:
            SaleNotLoaded: the sale's keys are missing, or there is no such sale.
            Overloaded: the outbox is at its cap, or too many calls wait.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        foreign = self._request_skus.of_another_sku(sku, items)
        if not foreign:
            return await self._decide(sku, items, timeout_s=timeout_s, bucket=bucket)
        own = [item for index, item in enumerate(items) if index not in foreign]
        decisions = _NOTHING_DECIDED
        if own:
            decisions = await self._decide(sku, own, timeout_s=timeout_s, bucket=bucket)
        return _with_foreign(decisions, foreign)

    async def _decide(
        self, sku: str, items: Sequence[ReserveItem], *, timeout_s: float, bucket: str
    ) -> Decisions:
        tag = bucket or sku
        user_ids = [item.user_id for item in items]
        args: list[Any] = [None] * (3 + 4 * len(user_ids))
        args[0], args[1], args[2] = sku, self._backlog_max, _call_named()
        args[3::4] = user_ids
        args[4::4] = [item.request_id for item in items]
        args[5::4] = [item.quantity for item in items]
        args[6::4] = make_order_nos(user_ids, now_s=self._clock.now_s(), rng=self._rng)
        keys = (
            sale_key(tag),
            stock_key(tag),
            users_key(tag),
            outbox_key(tag),
            backlog_key(tag),
            past_key(tag),
        )
        async with self._slot(timeout_s) as left_s:
            reply = await self._scripts.run(
                RESERVE,
                keys,
                args,
                timeout_s=left_s,
                confirm=self._confirm,
                marker=replication_marker_key(tag),
                needs_ack=_grants_units,
                items=len(items),
            )
        _check_status(reply[0], sku)
        uncounted = _SOLD_OUT if bucket else None
        decisions = _decisions(
            reply[2::2], reply[3::2], remaining_units=reply[1], uncounted=uncounted
        )
        if decisions.any_reserved:
            self._request_skus.note(sku, items, decisions.results)
        return decisions

    async def release(
        self, sku: str, orders: Iterable[ReleaseItem], *, timeout_s: float, bucket: str = ""
    ) -> list[int]:
        """Give units back.

        Args:
            orders: valid ones, at most 1,024.
            timeout_s: how long to wait for a slot and for Redis.
            bucket: as of `reserve`.

        Returns:
            Units given back for each order: 0 if the buyer's hold does not name it.

        Raises:
            SaleNotLoaded: the sale's keys are missing, or there is no such sale.
            Overloaded: too many calls wait.
            DependencyUnavailable, OutcomeUnknown: as ScriptRunner.run.
        """
        args: list[str | int] = [sku]
        for order in orders:
            args += (order.order_no, order.user_id, int(order.rejected))
        tag = bucket or sku
        keys = (sale_key(tag), stock_key(tag), users_key(tag))
        async with self._slot(timeout_s) as left_s:
            reply = await self._scripts.run(RELEASE, keys, args, timeout_s=left_s)
        _check_status(reply[0], sku)
        units: list[int] = reply[1:]
        metrics.RELEASED_UNITS_TOTAL.inc(sum(units))
        return units

    @asynccontextmanager
    async def _slot(self, timeout_s: float) -> AsyncIterator[float]:
        """Wait for one of the bounded runs; yields the seconds left of `timeout_s`."""
        if self._waiting >= self._waiting_max:
            raise Overloaded("too many calls wait for redis")
        started_s = self._clock.monotonic_s()
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Overloaded("no turn at redis within the deadline") from error
        finally:
            self._waiting -= 1
        try:
            yield max(0.0, timeout_s - (self._clock.monotonic_s() - started_s))
        finally:
            self._slots.release()


def _call_named() -> str:
    """Return the call's id, and its place if it is traced, as reserve.lua takes them."""
    span = tracing.current()
    call_id = request_ids.current()
    return call_id if span is None else f"{call_id} {span.context.header}"


def _check_status(status: int, sku: str) -> None:
    if status == _NOT_LOADED:
        raise SaleNotLoaded(metadata={"sku": sku})
    if status == _BACKLOG_FULL:
        raise Overloaded("too many reservations wait for kafka", metadata={"sku": sku})


def _grants_units(reply: list[Any]) -> bool:
    """Return whether a reply of reserve.lua tells a buyer that units are held for them.

    Also if they were reserved before: the first answer may have been "unknown" because replicas did
    not confirm it.
    """
    return _RESERVED in reply[2::2]


def _with_foreign(decisions: Decisions, foreign: set[int]) -> Decisions:
    """Return the decisions with an answer put in for each attempt in `foreign`, by index."""
    own = iter(decisions.results)
    count = len(decisions.results) + len(foreign)
    metrics.ATTEMPTS_BY_OUTCOME[_OTHER_SKU.outcome].inc(len(foreign))
    results = [_OTHER_SKU if index in foreign else next(own) for index in range(count)]
    return replace(decisions, results=results)


def all_ended(attempts: int) -> Decisions:
    """Return what so many attempts are told of a sale that is archived: Redis was not asked."""
    decisions = _decisions([_ENDED] * attempts, [b""] * attempts, remaining_units=0)
    return replace(decisions, remaining_units=None)


def _decisions(
    codes: list[int],
    order_nos: list[bytes],
    *,
    remaining_units: int,
    uncounted: int | None = None,
) -> Decisions:
    """Return what the script replied; `uncounted`: a code that is not final."""
    counts = Counter(codes)
    metrics.RESERVE_BATCH_ITEMS.observe(len(codes))
    for code, count in counts.items():
        if code != uncounted:
            metrics.ATTEMPTS_BY_OUTCOME[_OUTCOMES[code]].inc(count)
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
        remaining_units=remaining_units,
    )
