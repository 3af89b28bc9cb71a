"""Spreads messages over time, so that consuming stays below a rate."""

from seckill.clock import Clock


class Pace:
    """Tells how many messages to read next, and how long to wait before.

    Bursts are at most what one second allows, so no wait is much longer than a second.
    """

    def __init__(self, rate_max_per_s: int, clock: Clock) -> None:
        """`rate_max_per_s`: messages a second; 0 does not limit."""
        self._rate = rate_max_per_s
        self._clock = clock
        self._free_s = clock.monotonic_s()

    def batch_max(self, wanted: int) -> int:
        """How many messages to read at most, where `wanted` would be read without a limit."""
        return min(wanted, self._rate) if self._rate else wanted

    def wait_s(self) -> float:
        """Seconds to wait before reading on."""
        return max(0.0, self._free_s - self._clock.monotonic_s())

    def took(self, count: int) -> None:
        """Account for messages that have been read."""
        if self._rate:
            self._free_s = max(self._free_s, self._clock.monotonic_s()) + count / self._rate
