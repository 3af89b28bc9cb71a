"""Many calls, one call: while one batch is in flight the next one fills, so no call waits for a
timer, and the busier it gets the larger the batches are.

A second batch goes beside the first only if it is large, or has waited: two small batches cost
their services twice what one of both costs.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gateway.front.call import Call, id_of_batch, ids_of
from gateway.metrics import (
    GATEWAY_BATCH_ITEMS,
    GATEWAY_BATCH_WAIT_SECONDS,
    GATEWAY_BATCH_WAITING_COUNT,
)
from gateway.traced_batch import TracedBatch
from seckill.errors import OVERLOADED_WAIT_S, DeadlinePassed, Overloaded, SeckillError
from seckill.runtime import request_ids, tracing
from seckill.runtime.faults import fault_of, is_ended

# Share of the newest batch in the time that batches are taken to need.
BATCH_TIME_SMOOTHING = 0.3
# A batch goes beside one in flight if it has so many items, or has waited so long. In a batch of
# 32 what each item costs inventory is near its lowest; a batch alone is answered within 2 ms.
BESIDE_ITEMS_MIN = 32
BESIDE_WAIT_S = 0.005


class PendingItem(ABC):
    """Something that a call needs, queued for the next batch."""

    __slots__ = ("call",)

    call: Call

    @abstractmethod
    def fail(self, error: SeckillError) -> None:
        """Answer the call with an error."""


W = TypeVar("W", bound=PendingItem)
Send = Callable[[Sequence[W], float], Awaitable[None]]


class Batcher(Generic[W]):
    """One queue and its few batches in flight.

    Order of arrival is kept within a batch and between the starts of batches; with more than one
    in flight two batches may be decided in either order.
    """

    def __init__(
        self,
        send: Send[W],
        *,
        service: str,
        batch_max: int,
        in_flight_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """
        Args:
            send: sends a batch with a timeout in seconds and answers each of its calls; a
                SeckillError that it raises answers all of them.
            service: whom it asks, for metrics and traces.
            batch_max: items in a batch.
            in_flight_max: batches at once.
            waiting_max: items in the queue.
            timeout_s: longest time for a batch.
        """
        self._send = send
        self._service = service
        self._items = GATEWAY_BATCH_ITEMS.labels(service)
        self._waiting = GATEWAY_BATCH_WAITING_COUNT.labels(service)
        self._shown = 0
        self._wait = GATEWAY_BATCH_WAIT_SECONDS.labels(service)
        self._batch_max = batch_max
        self._in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        self._queue: deque[W] = deque()
        # Items of the batches in flight.
        self._sent = 0
        self._waits_since_s = 0.0
        # How long a batch took lately; what it says of the next ones is all that is known.
        self._batch_s = 0.0
        self._senders: set[asyncio.Task[None]] = set()
        self._due: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._queue and not self._senders

    @property
    def under_way(self) -> int:
        """Items that wait or are in flight."""
        return len(self._queue) + self._sent

    def add(self, item: W) -> None:
        """Queue an item; `flush` sends it. Raises Overloaded if the queue is full."""
        if len(self._queue) >= self._waiting_max:
            raise Overloaded(wait_s=self._wait_s())
        if not self._queue:
            self._waits_since_s = time.monotonic()
        self._queue.append(item)

    def flush(self) -> None:
        """Start a batch of what waits, unless it had better wait for those that are in flight."""
        self._update_gauge()
        if not self._queue or len(self._senders) >= self._in_flight_max:
            return
        if self._senders and len(self._queue) < BESIDE_ITEMS_MIN:
            waited_s = time.monotonic() - self._waits_since_s
            if waited_s < BESIDE_WAIT_S:
                self._flush_in(BESIDE_WAIT_S - waited_s)
                return
        sender = asyncio.create_task(self._send_all(), name="batch sender")
        self._senders.add(sender)
        sender.add_done_callback(self._end)

    def _end(self, sender: asyncio.Task[None]) -> None:
        """A sender has ended; what was queued since it looked last needs another one."""
        self._senders.discard(sender)
        self.flush()

    def _flush_in(self, delay_s: float) -> None:
        """Flush again soon: a batch in flight that is slow holds back nothing."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(delay_s, self._flush_late)

    def _flush_late(self) -> None:
        self._due = None
        self.flush()

    def _wait_s(self) -> float:
        """How long what is queued will take, by the time that batches took lately."""
        batches = len(self._queue) / self._batch_max
        return batches * self._batch_s / self._in_flight_max or OVERLOADED_WAIT_S

    def _update_gauge(self) -> None:
        """Bring the gauge, which all batchers of a service share, up to date."""
        self._waiting.inc(len(self._queue) - self._shown)
        self._shown = len(self._queue)

    async def _send_all(self) -> None:
        """Batch after batch until the queue is empty."""
        while self._queue:
            begun_s = time.monotonic()
            batch = self._take(begun_s)
            self._update_gauge()
            if not batch:
                continue
            self._items.observe(len(batch))
            self._wait.observe(begun_s - self._waits_since_s)
            self._waits_since_s = begun_s
            # No longer than the most patient caller waits.
            left_s = max(item.call.deadline_s for item in batch) - begun_s
            calls = [item.call for item in batch]
            self._sent += len(batch)
            request_ids.bind(id_of_batch(calls))
            traced = self._traced(calls, begun_s)
            try:
                await self._send(batch, min(self._timeout_s, left_s))
            except (Exception, asyncio.CancelledError) as error:
                if is_ended(error):
                    raise
                fault = fault_of(error, calls=len(calls), ids=ids_of(calls))
                if traced is not None:
                    traced.fail(fault)
                _fail_all(batch, fault)
            finally:
                self._sent -= len(batch)
                if traced is not None:
                    traced.end()
            took_s = time.monotonic() - begun_s
            self._batch_s += BATCH_TIME_SMOOTHING * (took_s - self._batch_s)

    def _traced(self, calls: Sequence[Call], begun_s: float) -> TracedBatch | None:
        tracer = tracing.tracer
        if tracer is None:
            return None
        return TracedBatch(tracer, calls, service=self._service, begun_s=begun_s)

    def _take(self, now_s: float) -> list[W]:
        """The next batch, without those whose callers have left or wait no longer."""
        batch: list[W] = []
        queue = self._queue
        while queue and len(batch) < self._batch_max:
            item = queue.popleft()
            if item.call.cancelled:
                continue
            if item.call.deadline_s <= now_s:
                item.fail(DeadlinePassed())
            else:
                batch.append(item)
        return batch


def _fail_all(batch: Sequence[PendingItem], error: SeckillError) -> None:
    for item in batch:
        item.fail(error)
