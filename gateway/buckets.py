"""Token buckets: for all callers together, for each address, for each user.

A bucket is one number, the moment at which it will be full again. A full bucket needs no memory at
all, and refilling is a comparison. (The same arithmetic is known as GCRA, ITU-T I.371.)
"""

from collections.abc import Callable

from gateway.recent import Recent
from seckill.errors import RateLimited

# A thousandth of a token: what a thousand floating-point additions may lose must not cost a call.
SLACK_TOKENS = 0.001
# RetryInfo is rounded up to this, so that the encoded refusals are few and can be kept.
RETRY_STEP_S = 0.01


def full_after_taking(full_at_s: float, *, now_s: float, rate_per_s: float) -> float:
    """When a bucket will be full again once one more token is taken out of it."""
    return max(full_at_s, now_s) + 1.0 / rate_per_s


def tokens_left(full_at_s: float, *, now_s: float, rate_per_s: float, burst: int) -> float:
    """Tokens in the bucket; negative would mean that more was taken than there was."""
    return burst - max(0.0, full_at_s - now_s) * rate_per_s


class Buckets:
    """One bucket for each key, at most `tracked_max` of them.

    The keys used longest ago are forgotten first, which fills their buckets. The memory is
    bounded; whoever can use more addresses than that is a matter for the bucket of all.
    """

    def __init__(
        self,
        name: str,
        *,
        rate_per_s: float,
        burst: int,
        tracked_max: int,
        on_refusal: Callable[[], object] = bool,
    ) -> None:
        """
        Args:
            name: goes into refusals, e.g. "user".
            rate_per_s: tokens that flow in; 0 lets everything pass.
            burst: tokens in a full bucket.
            tracked_max: buckets in memory.
            on_refusal: called at each refusal.
        """
        self.name = name
        self._on_refusal = on_refusal
        self._rate_per_s = rate_per_s
        self._interval_s = 1.0 / rate_per_s if rate_per_s else 0.0
        self._span_s = (burst + SLACK_TOKENS) * self._interval_s
        self._full_at_s: Recent[str, float] = Recent(tracked_max)

    @property
    def limited(self) -> bool:
        """False where everything passes."""
        return self._rate_per_s > 0

    @property
    def tracked(self) -> int:
        """Buckets in memory."""
        return len(self._full_at_s)

    def take(self, key: str, now_s: float) -> None:
        """Take one token.

        Args:
            key: whose bucket.
            now_s: monotonic time.

        Raises:
            RateLimited: there is none; it carries the time until there will be one.
        """
        if not self._rate_per_s:
            return
        full_at_s = self._full_at_s.get(key)
        # full_after_taking, written out: this runs up to three times a call.
        next_s = (
            full_at_s if full_at_s is not None and full_at_s > now_s else now_s
        ) + self._interval_s
        wait_s = next_s - now_s - self._span_s
        if wait_s > 0:
            self._on_refusal()
            steps = int(wait_s / RETRY_STEP_S) + 1
            raise RateLimited(self.name, retry_after_s=round(steps * RETRY_STEP_S, 2))
        self._full_at_s.put(key, next_s)
