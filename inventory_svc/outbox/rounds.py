"""Which outboxes the relay reads, and which it only asks for their length now and then. Pure.

Reservations of this replica wake the relay, so an outbox that was empty is looked at only for what
other replicas have left behind when they died. So idle sales cost next to nothing, however many
there have ever been.
"""

import heapq
from collections.abc import Iterable


class Rounds:
    """Outboxes with entries, and when to look at the others next."""

    def __init__(self, *, wait_min_s: float, wait_max_s: float) -> None:
        """Describe it.

        Args:
            wait_min_s: when an outbox that was just emptied is looked at; twice as long after each
                time it is found empty.
            wait_max_s: the longest such wait.
        """
        self._wait_min_s = wait_min_s
        self._wait_max_s = wait_max_s
        # In the order in which they got their first entry.
        self._active: dict[str, None] = {}
        # Outbox → (when it is due, its last wait), for those that were empty.
        self._resting: dict[str, tuple[float, float]] = {}
        # The same by time. What `_resting` says otherwise about is out of date.
        self._queue: list[tuple[float, str]] = []

    @property
    def active(self) -> list[str]:
        """Outboxes to read."""
        return list(self._active)

    def know(self, outboxes: Iterable[str]) -> None:
        """Note all that there are; new ones are due at once, others are forgotten once empty."""
        known = set(outboxes)
        for gone in self._resting.keys() - known:
            del self._resting[gone]
        self.hurry(known - self._resting.keys() - self._active.keys())

    def hurry(self, outboxes: Iterable[str]) -> None:
        """Have these looked at next, unless they are read anyway."""
        for outbox in outboxes:
            if outbox not in self._active:
                self._rest(outbox, due_s=0.0, wait_s=self._wait_min_s / 2)

    def activate(self, outbox: str) -> None:
        """Note that an outbox has entries, or may have."""
        self._resting.pop(outbox, None)
        self._active[outbox] = None

    def rest(self, outbox: str, *, now_s: float) -> None:
        """Note that an outbox is empty."""
        _, waited_s = self._resting.get(outbox, (0.0, self._wait_min_s / 2))
        self._active.pop(outbox, None)
        wait_s = min(2 * waited_s, self._wait_max_s)
        self._rest(outbox, due_s=now_s + wait_s, wait_s=wait_s)

    def due(self, *, now_s: float, most: int) -> list[str]:
        """Return up to `most` outboxes to look at now; each is due until it is said to rest."""
        found: dict[str, None] = {}
        while self._queue and self._queue[0][0] <= now_s and len(found) < most:
            due_s, outbox = heapq.heappop(self._queue)
            if self._resting.get(outbox, (None,))[0] == due_s:
                found[outbox] = None
        # Until they have been looked at: Redis may fail.
        for outbox in found:
            heapq.heappush(self._queue, (self._resting[outbox][0], outbox))
        return list(found)

    def _rest(self, outbox: str, *, due_s: float, wait_s: float) -> None:
        self._resting[outbox] = (due_s, wait_s)
        heapq.heappush(self._queue, (due_s, outbox))
