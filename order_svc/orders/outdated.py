"""Orders that the projection is wrong about: polls are answered from the database meanwhile."""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import NamedTuple

# Orders remembered; of those beyond, the projection may say what was so for its whole TTL. 10 MiB.
OUTDATED_MAX = 65_536


class Mark(NamedTuple):
    """An order that changed.

    Attributes:
        change: number of its last change.
        since_s: monotonic time from which on the projection is wrong about it.
    """

    change: int
    since_s: float


class OutdatedOrders:
    """Numbers of orders that changed while Redis took no writes, the oldest first."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._marks: dict[str, Mark] = {}
        self._next_change = count()
        self._any = asyncio.Event()

    def __contains__(self, order_no: str) -> bool:
        return order_no in self._marks

    def __len__(self) -> int:
        return len(self._marks)

    def age_s(self) -> float:
        """Return for how long the projection has been wrong about the oldest; 0 without one."""
        oldest = next(iter(self._marks.values()), None)
        return self._monotonic_s() - oldest.since_s if oldest else 0.0

    def add(self, order_nos: Iterable[str]) -> None:
        """Remember these; the oldest are forgotten if there are too many."""
        now_s = self._monotonic_s()
        for number in order_nos:
            known = self._marks.get(number)
            self._marks[number] = Mark(next(self._next_change), known.since_s if known else now_s)
        while len(self._marks) > OUTDATED_MAX:
            del self._marks[next(iter(self._marks))]
        if self._marks:
            self._any.set()

    async def first(self, limit: int) -> dict[str, Mark]:
        """Await orders, and return up to `limit` of them, each with its mark."""
        await self._any.wait()
        return dict(islice(self._marks.items(), limit))

    def forget(self, marks: dict[str, Mark]) -> None:
        """Forget those that have not changed since `first` returned these marks."""
        for number, mark in marks.items():
            if self._marks.get(number) == mark:
                del self._marks[number]
        if not self._marks:
            self._any.clear()
