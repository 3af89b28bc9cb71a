"""Orders that the projection is wrong about: polls are answered from the database meanwhile."""

import asyncio
from collections.abc import Iterable
from itertools import count, islice

# Orders remembered; of those beyond, the projection may say what was so for its whole TTL. 10 MiB.
OUTDATED_MAX = 65_536


class OutdatedOrders:
    """Numbers of orders that changed while Redis took no writes, the oldest first."""

    def __init__(self) -> None:
        # Number → mark of its last change.
        self._marks: dict[str, int] = {}
        self._next_mark = count()
        self._any = asyncio.Event()

    def __contains__(self, order_no: str) -> bool:
        return order_no in self._marks

    def add(self, order_nos: Iterable[str]) -> None:
        """Remember these; the oldest are forgotten if there are too many."""
        for number in order_nos:
            self._marks[number] = next(self._next_mark)
        while len(self._marks) > OUTDATED_MAX:
            del self._marks[next(iter(self._marks))]
        if self._marks:
            self._any.set()

    async def first(self, limit: int) -> dict[str, int]:
        """Await orders, and return up to `limit` of them, each with its mark."""
        await self._any.wait()
        return dict(islice(self._marks.items(), limit))

    def forget(self, marks: dict[str, int]) -> None:
        """Forget those that have not changed since `first` returned these marks."""
        for number, mark in marks.items():
            if self._marks.get(number) == mark:
                del self._marks[number]
        if not self._marks:
            self._any.clear()
