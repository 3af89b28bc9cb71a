"""Rounds that bring the units of unpaid, cancelled and rejected orders back on sale.

A round: due orders of the delay set, then (every few seconds) what the database knows to have
expired beyond it, then every order whose units are still out, however it came there. Replicas
share the work: what one has claimed is out of the others' sight until its lease ends, and comes due
again if that replica died. Orders go cancel → release → note → forget, and each step may be
repeated: the compare-and-set of OrderService and the hold in InventoryService decide, so a round
may die anywhere and replicas may overtake each other. Work is proportional to what is due.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog

from rollback_svc import metrics
from rollback_svc.clients import InventoryClient, OrderClient, SaleRefused
from rollback_svc.settings import RollbackSettings
from seckill.errors import SeckillError
from seckill.order_no import is_order_no, made_at_s
from seckill.runtime import failpoints, tracing
from seckill.runtime.clock import Clock
from seckill.runtime.delay import DelaySet
from seckill.runtime.retry import until_success
from seckill.runtime.spans import Value
from seckill.v1.order_pb2 import CancelExpiredResponse, PendingOrder, UnrestoredOrder

log = structlog.get_logger()


@dataclass
class SweepResult:
    """What one round did."""

    # Unix time in seconds at which it started.
    now_s: float
    # Orders cancelled, or found cancelled or rejected with their units still out.
    unrestored: set[str] = field(default_factory=set)
    restored_units: int = 0
    # Entries of the delay set dropped because the database does not know them.
    unknown_orders: int = 0
    # Sales whose units could not be returned; the round asks once for each.
    refused_skus: set[str] = field(default_factory=set)
    # What ended a phase early; the next round does what it left.
    errors: list[SeckillError] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing was refused."""
        return not self.errors and not self.refused_skus


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Count and log the failure of one step; `name` is one of metrics.STEPS."""
    try:
        yield
    except SeckillError as error:
        metrics.ROLLBACK_FAILURES_TOTAL.labels(name).inc()
        log.warning("rollback step failed", step=name, error=str(error), **error.metadata)
        raise


class Sweeper:
    """Runs the rounds, one at a time."""

    def __init__(
        self,
        *,
        settings: RollbackSettings,
        delay: DelaySet,
        orders: OrderClient,
        inventory: InventoryClient,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._delay = delay
        self._orders = orders
        self._inventory = inventory
        self._clock = clock
        self._rng = rng
        self._one_round = asyncio.Lock()
        self._expired_sweep_s = 0.0
        self.rounds = 0
        self.restored_units = 0
        self.last_success_s: float | None = None

    async def run(self) -> None:
        """Run a round every `rollback_interval_s`; after failed ones the pause doubles."""
        interval_s = self._settings.rollback_interval_s
        while True:
            async for attempt in until_success(
                "rollback round",
                on=SeckillError,
                wait_min_s=interval_s,
                wait_max_s=max(interval_s, self._settings.rollback_backoff_max_s),
            ):
                with attempt:
                    result = await self.run_once(self._clock.now_s())
                    if result.errors:
                        raise result.errors[0]
            # Give or take a tenth, so that replicas that start together drift apart.
            await asyncio.sleep(interval_s * self._rng.uniform(0.9, 1.1))

    async def run_once(self, now_s: float, *, everything: bool = False) -> SweepResult:
        """Run one round at Unix time `now_s`.

        Args:
            everything: search the database for expired orders even if it is not time for it yet.

        Returns:
            What was done; faults of stores and services are in its `errors`, not raised.
        """
        async with self._one_round:
            result = SweepResult(now_s=now_s)
            with metrics.ROLLBACK_ROUND_SECONDS.time():
                await self._phase(self._sweep_due, result)
                is_time = everything or now_s >= self._expired_sweep_s
                # What the delay set has not lost is settled, or claimed by a replica, before that.
                overdue_s = 0.0 if everything else self._settings.rollback_lease_s
                sweep_expired = partial(self._sweep_expired, overdue_s=overdue_s)
                if is_time and await self._phase(sweep_expired, result):
                    self._expired_sweep_s = now_s + self._settings.rollback_database_interval_s
                await self._phase(self._sweep_unrestored, result)
                await self._phase(self._count, result)
            self._note(result)
            return result

    async def _phase(
        self, work: Callable[[SweepResult], Awaitable[None]], result: SweepResult
    ) -> bool:
        """Run one phase and return whether it ended well; a fault does not stop the next phase."""
        try:
            await work(result)
        except SeckillError as error:
            result.errors.append(error)
            return False
        return True

    def _note(self, result: SweepResult) -> None:
        self.rounds += 1
        self.restored_units += result.restored_units
        metrics.ROLLBACK_ROUNDS_TOTAL.labels("ok" if result.ok else "failed").inc()
        metrics.ROLLBACK_CANCELLED_ORDERS_TOTAL.inc(len(result.unrestored))
        metrics.ROLLBACK_RESTORED_UNITS_TOTAL.inc(result.restored_units)
        metrics.ROLLBACK_UNKNOWN_ORDERS_TOTAL.inc(result.unknown_orders)
        if result.ok:
            self.last_success_s = self._clock.now_s()
            metrics.ROLLBACK_LAST_SUCCESS_TIMESTAMP_SECONDS.set(self.last_success_s)
        if result.unrestored or result.unknown_orders:
            log.info(
                "round ended",
                cancelled_orders=len(result.unrestored),
                restored_units=result.restored_units,
                unknown_orders=result.unknown_orders,
            )

    async def _sweep_due(self, result: SweepResult) -> None:
        """Settle the due orders of the delay set, page by page; each is ours once claimed."""
        page_size = self._settings.rollback_page_size
        for _ in range(self._settings.rollback_pages_max):
            with _step("claim_due"):
                claim = await self._delay.claim(
                    limit=page_size, lease_s=self._settings.rollback_lease_s
                )
            found = claim.order_nos
            malformed = [number for number in found if not is_order_no(number)]
            result.unknown_orders += len(malformed)
            await self._remove(malformed)
            numbers = [number for number in found if is_order_no(number)]
            try:
                answer = await self._cancel(numbers)
            except SeckillError:
                # Nothing is decided: the next replica need not wait for the end of the lease.
                await self._delay.add(dict.fromkeys(numbers, claim.now_s))
                raise
            await self._settle(numbers, answer, result, now_s=claim.now_s)
            if len(found) < page_size:
                return

    async def _sweep_expired(self, result: SweepResult, *, overdue_s: float) -> None:
        """Settle what the database knows to have expired: the delay set may have lost it."""
        page_size = self._settings.rollback_page_size
        for _ in range(self._settings.rollback_pages_max):
            with _step("list_expired"):
                found = await self._orders.list_expired(page_size, overdue_s=overdue_s)
            await self._settle(found, await self._cancel(found), result, now_s=result.now_s)
            if len(found) < page_size:
                return

    async def _sweep_unrestored(self, result: SweepResult) -> None:
        """Restore orders whose units are still out: rejected, given up, or left by a dead round."""
        page_size = self._settings.rollback_page_size
        for _ in range(self._settings.rollback_pages_max):
            with _step("claim_unrestored"):
                found = await self._orders.claim_unrestored(page_size)
            await self._remove(await self._restore(found, result))
            if len(found) < page_size:
                return

    async def _cancel(self, order_nos: Sequence[str]) -> CancelExpiredResponse:
        if not order_nos:
            return CancelExpiredResponse()
        with _step("cancel_expired"):
            answer = await self._orders.cancel_expired(order_nos)
        await failpoints.reach("rollback.after_cancel")
        return answer

    async def _settle(
        self,
        order_nos: Sequence[str],
        answer: CancelExpiredResponse,
        result: SweepResult,
        *,
        now_s: float,
    ) -> None:
        """Return the units of those that were cancelled, and clear the delay set of all."""
        restored = set(await self._restore(answer.unrestored, result))
        pending = {order.order_no for order in answer.pending}
        # Refused by their sale, or another replica's to restore.
        waiting = {order.order_no for order in answer.unrestored} - restored
        waiting |= set(answer.claimed_order_nos)
        settled = set(answer.settled_order_nos)
        unknown = set(order_nos) - restored - pending - waiting - settled
        forgotten = {number for number in unknown if self._is_old(number, now_s=now_s)}
        result.unknown_orders += len(forgotten)
        await self._put_off(answer.pending, others=waiting | unknown - forgotten, now_s=now_s)
        await self._remove(restored | settled | forgotten)

    async def _restore(
        self, orders: Iterable[UnrestoredOrder], result: SweepResult
    ) -> Sequence[str]:
        """Return the units of `orders` and note it; the numbers of those now restored.

        A sale that refuses keeps its orders out; the others go on.
        """
        by_sku = defaultdict(list)
        for order in orders:
            by_sku[order.sku].append(order)
            result.unrestored.add(order.order_no)
        if not by_sku:
            return []
        attributes: dict[str, Value] = {
            "seckill.sales": len(by_sku),
            "seckill.orders": sum(map(len, by_sku.values())),
        }
        with tracing.work("restore", "internal", attributes, root=True):
            return await self._restore_sales(by_sku, result)

    async def _restore_sales(
        self, by_sku: Mapping[str, Sequence[UnrestoredOrder]], result: SweepResult
    ) -> Sequence[str]:
        restored: list[str] = []
        for sku, group in by_sku.items():
            if sku in result.refused_skus:
                continue
            try:
                with _step("release"):
                    result.restored_units += await self._inventory.release(sku, group)
            except SaleRefused:
                result.refused_skus.add(sku)
            else:
                # Also if 0 units came back: then another replica has released them.
                restored += [order.order_no for order in group]
        if restored:
            await failpoints.reach("rollback.after_release")
            with _step("mark_restored"):
                await self._orders.mark_restored(restored)
            await failpoints.reach("rollback.after_mark")
        return restored

    def _is_old(self, order_no: str, *, now_s: float) -> bool:
        # A number "made" far ahead of our clock was not made by the mesh; it must not stay either.
        return abs(now_s - made_at_s(order_no)) > self._settings.rollback_unknown_keep_s

    async def _put_off(
        self, pending: Iterable[PendingOrder], *, others: Iterable[str], now_s: float
    ) -> None:
        """Move orders that are not due yet, or cannot be settled now, out of the way."""
        # If our clock is ahead of the database's, an order that is due here is pending there;
        # scored with its own time it would come back at once, in this very round.
        soonest_s = now_s + self._settings.rollback_interval_s
        later = dict.fromkeys(others, now_s + self._settings.rollback_put_off_s)
        for order in pending:
            later[order.order_no] = max(order.expire_time.ToNanoseconds() / 1e9, soonest_s)
        if later:
            with _step("put_off"):
                await self._delay.add(later)

    async def _remove(self, order_nos: Iterable[str]) -> None:
        with _step("remove"):
            await self._delay.remove(order_nos)

    async def _count(self, result: SweepResult) -> None:
        with _step("count"):
            due, delayed = await self._delay.counts(now_s=result.now_s)
        metrics.DELAY_DUE_ORDERS.set(due)
        metrics.DELAY_ORDERS.set(delayed)
