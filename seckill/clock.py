"""Time as a dependency, so that tests can move it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a stage reads the time."""

    def now_s(self) -> float:
        """Unix time in seconds."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary point; never goes back."""


class SystemClock:
    """The machine's own clocks."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()
