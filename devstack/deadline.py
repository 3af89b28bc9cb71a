"""Bounded waiting, without threads: every wait is a generator that yields between its looks."""

import time
from collections.abc import Iterable, Iterator

POLL_INTERVAL_S = 0.02


class Deadline:
    """A moment on the monotonic clock after which waiting is over."""

    def __init__(self, timeout_s: float) -> None:
        """Set the deadline.

        Args:
            timeout_s: seconds from now.
        """
        self._at_s = time.monotonic() + timeout_s

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return time.monotonic() >= self._at_s


def drive(tasks: Iterable[Iterator[None]]) -> None:
    """Run waiting generators side by side in the calling thread until all have ended.

    Args:
        tasks: generators that yield whenever they wait; each bounds its own waiting.

    Raises:
        StackError: from the first task that fails; the others are closed.
    """
    active = list(tasks)
    try:
        while active:
            active = [task for task in active if next(task, task) is None]
            if active:
                time.sleep(POLL_INTERVAL_S)
    finally:
        for task in active:
            close = getattr(task, "close", None)
            if close is not None:
                close()
