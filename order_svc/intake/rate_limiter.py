"""Spreads messages over time, so that consuming stays below a rate."""

from seckill.runtime.clock import Clock


class ConsumeRateLimiter:
    """Says how many messages to read next, and how long to wait before reading them.

    Bursts are at most what one second allows, so no wait is much longer than a second.
    """

    def __init__(self, rate_max_per_s: int, clock: Clock) -> None:
        """`rate_max_per_s`: messages a second; 0 does not limit."""
        self._rate = rate_max_per_s
        self._clock = clock
        self._free_s = clock.monotonic_s()

    def batch_max(self, wanted: int) -> int:
        """Return how many messages to read at most; `wanted` without a limit."""
        return min(wanted, self._rate) if self._rate else wanted

    def wait_s(self) -> float:
        """Return the seconds to wait before reading on."""
        return max(0.0, self._free_s - self._clock.monotonic_s())

    def record(self, count: int) -> None:
        """Account for messages that have been read."""
        if self._rate:
            self._free_s = max(self._free_s, self._clock.monotonic_s()) + count / self._rate
