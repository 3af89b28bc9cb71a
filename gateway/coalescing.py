"""Many calls, one call: while one batch is under way the next one fills, so nobody waits for a
timer, and the busier it gets the larger the batches are.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from gateway.front.call import Call
from gateway.metrics import BATCH_ITEMS, BATCH_WAIT_SECONDS, BATCH_WAITING
from seckill.errors import DeadlinePassed, Overloaded, SeckillError
from seckill.server import fault_of, is_ended

log = structlog.get_logger()


class Waiting(ABC):
    """Something that waits for its turn on behalf of a call."""

    __slots__ = ("call",)

    call: Call

    @abstractmethod
    def fail(self, error: SeckillError) -> None:
        """Answer the call with an error."""


W = TypeVar("W", bound=Waiting)
Send = Callable[[Sequence[W], float], Awaitable[None]]


class Lane(Generic[W]):
    """One queue and its few batches under way.

    Order of arrival is kept within a batch and between the starts of batches; with more than one
    under way two batches may be decided in either order.
    """

    def __init__(
        self,
        send: Send[W],
        *,
        stage: str,
        batch_max: int,
        under_way_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """
        Args:
            send: sends a batch with a timeout in seconds and answers each of its calls; a
                SeckillError that it raises answers all of them.
            stage: whom it asks, for the metrics.
            batch_max: items in a batch.
            under_way_max: batches at once.
            waiting_max: items in the queue.
            timeout_s: longest time for a batch.
        """
        self._send = send
        self._items = BATCH_ITEMS.labels(stage)
        self._waiting = BATCH_WAITING.labels(stage)
        self._told = 0
        self._wait = BATCH_WAIT_SECONDS.labels(stage)
        self._batch_max = batch_max
        self._under_way_max = under_way_max
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        self._queue: deque[W] = deque()
        self._waits_since_s = 0.0
        self._senders: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._queue and not self._senders

    def add(self, item: W) -> None:
        """Queue an item; `kick` sends it. Raises Overloaded where the queue is full."""
        if len(self._queue) >= self._waiting_max:
            raise Overloaded
        if not self._queue:
            self._waits_since_s = time.monotonic()
        self._queue.append(item)

    def kick(self) -> None:
        """Begin a batch if there is something to send and room under way."""
        self._tell()
        if self._queue and len(self._senders) < self._under_way_max:
            sender = asyncio.create_task(self._send_all(), name="batch sender")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    def _tell(self) -> None:
        """Bring the gauge, which all lanes of a stage share, up to date."""
        self._waiting.inc(len(self._queue) - self._told)
        self._told = len(self._queue)

    async def _send_all(self) -> None:
        """Batch after batch until the queue is empty."""
        while self._queue:
            begun_s = time.monotonic()
            batch = self._take(begun_s)
            self._tell()
            if not batch:
                continue
            self._items.observe(len(batch))
            self._wait.observe(begun_s - self._waits_since_s)
            self._waits_since_s = begun_s
            # No longer than the most patient caller waits.
            left_s = max(item.call.deadline_s for item in batch) - begun_s
            try:
                await self._send(batch, min(self._timeout_s, left_s))
            except SeckillError as error:
                _fail_all(batch, error)
            except (Exception, asyncio.CancelledError) as error:
                if is_ended(error):
                    raise
                log.exception("batch failed", items=len(batch))
                _fail_all(batch, fault_of(error))

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


def _fail_all(batch: Sequence[Waiting], error: SeckillError) -> None:
    for item in batch:
        item.fail(error)
