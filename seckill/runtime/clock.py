"""Time as a dependency, so that tests can set it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time to a service."""

    def now_s(self) -> float:
        """Return Unix time in seconds."""

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary point; they never go back."""


class SystemClock:
    """The clocks of the machine."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()
