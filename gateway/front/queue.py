"""The queue before the handlers, which both fronts share: who is next, and who waits no longer."""

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.front.batches import Batches
from gateway.front.call import BatchedMethod, Call
from gateway.front.call_batch import CallBatch
from gateway.front.load import TICK_S, TimedAdmission
from seckill.errors import OVERLOADED_WAIT_S, Overloaded, SeckillError

# Calls that the handlers get in one turn of the loop.
BATCH_MAX = 512
# While the oldest call has waited longer than this, the newest goes first: there are more calls
# than can be answered, and the newest has the most of its deadline left (Facebook's adaptive LIFO).
NEWEST_FIRST_AFTER_S = 0.02
# Bytes of requests that may wait; an honest one has under a kilobyte.
QUEUED_BYTES_MAX = 32 * 1024 * 1024
# Calls whose callers have left stay in the queue until they are so many, and most of it.
DEAD_MAX = 1_024


class QueuedCall(Call):
    """A call that waits for its turn, and is counted from its whole request to its answer.

    Attributes:
        index: of its method.
        arrived_s, patience_s: monotonic time of its arrival, and until when it may wait.
        counted: it is in flight: its request is there.
        handled: the handlers have it.
        size: bytes that it keeps while it waits.
        batch: the calls that are handled with it, if the front counts them; None before.
    """

    __slots__ = ("arrived_s", "batch", "counted", "handled", "index", "patience_s", "size")

    index: int
    arrived_s: float
    patience_s: float
    counted: bool
    handled: bool
    size: int
    batch: CallBatch | None

    @abstractmethod
    def open(self) -> None:
        """Decode the request into `payload`. Raises InvalidField if it is none."""


C = TypeVar("C", bound=QueuedCall)


class CallQueue:
    """Counts the calls in flight, and hands them to the handlers as there is room."""

    def __init__(
        self,
        methods: Sequence[BatchedMethod],
        admission: TimedAdmission,
        *,
        on_batch: Callable[[int, Sequence[QueuedCall], float], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_batch` is told a method's index, its calls and the time before they are handled."""
        self.admission = admission
        self._methods = methods
        self._on_batch = on_batch
        self._clock = clock
        self._batches = Batches()
        self._urgent: deque[QueuedCall] = deque()
        self._waiting: deque[QueuedCall] = deque()
        self._handled = 0
        self._dead = 0
        self._bytes = 0
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self._ticking: asyncio.TimerHandle | None = None

    def refuses(self, index: int, timeout_s: float) -> bool:
        """Count a call that arrives; whether it would wait too long for its deadline."""
        admission = self.admission
        admission.arrived += 1
        if self._methods[index].urgent:
            admission.urgent_arrived += 1
            return admission.refuses(timeout_s, ahead=len(self._urgent) + self._handled)
        refused = admission.refuses(timeout_s)
        admission.refused += refused
        return refused

    def count_sieved(self, count: int) -> None:
        """Count calls that were refused before they had a method."""
        self.admission.arrived += count
        self.admission.refused += count

    def refusal(self) -> Overloaded:
        """What a call that is refused is told."""
        return Overloaded(wait_s=self.admission.retry_wait_s(OVERLOADED_WAIT_S))

    def enter(
        self, call: QueuedCall, *, timeout_s: float, now_s: float, patient_s: float | None = None
    ) -> None:
        """Take a call that has been let in; its request may still be on its way.

        It counts once that is there: what never comes is no work, and must not keep others out.

        Args:
            timeout_s: until its deadline.
            patient_s: by which it was let in, if that is another time.
        """
        call.arrived_s = now_s
        call.deadline_s = now_s + timeout_s
        call.patience_s = now_s + self.admission.patience_s(patient_s or timeout_s)
        call.counted = False
        call.handled = False
        call.cancelled = False
        call.size = 0
        call.batch = None

    def complete(self, call: QueuedCall, size: int) -> None:
        """The call's request is there: it is handled when there is room."""
        if self._bytes + size > QUEUED_BYTES_MAX:
            call.fail(self.refusal())
            return
        call.counted = True
        self.admission.in_flight += 1
        call.size = size
        self._bytes += size
        (self._urgent if self._methods[call.index].urgent else self._waiting).append(call)
        self._schedule()

    def leave(self, call: QueuedCall, *, answered: bool) -> None:
        """The call is answered, or its caller has left."""
        admission = self.admission
        admission.in_flight -= call.counted
        if not answered:
            call.cancelled = True
        if call.handled:
            # What is refused before it is handled says nothing of how fast calls are handled.
            admission.answered += answered
            self._handled -= 1
            if self._waiting or self._urgent:
                self._schedule()
        elif call.size:
            self._bytes -= call.size
            call.size = 0
            self._dead += 1
            if self._dead > max(DEAD_MAX, self.queued // 2):
                self._forget_dead()

    @property
    def queued(self) -> int:
        """Calls in the queue, dead ones among them."""
        return len(self._waiting) + len(self._urgent)

    def start(self) -> None:
        """Begin to measure."""
        self._tick()

    def stop(self) -> None:
        """Measure no longer."""
        if self._ticking is not None:
            self._ticking.cancel()

    def _tick(self) -> None:
        self.admission.tick(self._clock())
        self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Hand the next calls to the handlers, those of each method together."""
        self._scheduled = False
        self.admission.sample()
        now_s = self._clock()
        by_method: list[list[QueuedCall]] = [[] for _ in self._methods]
        for call in self._take(min(BATCH_MAX, self.admission.room(self._handled)), now_s):
            by_method[call.index].append(call)
        for index, calls in enumerate(by_method):
            if calls:
                self._on_batch(index, calls, now_s)
                self._batches.start(self._methods[index], calls)
        if self.queued and self.admission.room(self._handled) > 0:
            self._schedule()

    def _take(self, room: int, now_s: float) -> list[QueuedCall]:
        taken: list[QueuedCall] = []
        for queue, newest_first in ((self._urgent, False), (self._waiting, True)):
            while queue and len(taken) < room:
                oldest = queue[0]
                late = now_s - oldest.arrived_s > NEWEST_FIRST_AFTER_S
                waits = oldest.patience_s >= now_s and oldest.size > 0
                call = queue.pop() if newest_first and late and waits else queue.popleft()
                if self._is_alive(call, now_s):
                    call.handled = True
                    self._handled += 1
                    taken.append(call)
        return taken

    def _is_alive(self, call: QueuedCall, now_s: float) -> bool:
        """Whether a call that leaves the queue is to be handled; if not, it has been answered."""
        if not call.size:
            self._dead -= 1
            return False
        self._bytes -= call.size
        call.size = 0
        try:
            if call.patience_s < now_s:
                raise self.refusal()
            call.open()
        except SeckillError as error:
            call.fail(error)
            return False
        return True

    def _forget_dead(self) -> None:
        for queue in (self._urgent, self._waiting):
            alive = [call for call in queue if call.size]
            queue.clear()
            queue.extend(alive)
        self._dead = 0
