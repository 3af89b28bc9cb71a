"""Token buckets: for all callers together, for each address, for each user.

A bucket is one number: the place on a scale of tokens at which it will be full again. The scale
counts the tokens that have flowed into every bucket, so a full bucket needs no memory at all,
refilling is a comparison, and a new rate, which only makes the scale run faster or slower, leaves
in each bucket what was spent. (With a constant rate this is GCRA, ITU-T I.371.)
"""

from collections.abc import Callable

from seckill.errors import RateLimited
from seckill.runtime.recent import Recent

# A thousandth of a token: what a thousand floating-point additions may lose must not cost a call.
SLACK_TOKENS = 0.001
# RetryInfo is rounded up to this, so that the encoded refusals are few and can be kept.
RETRY_STEP_S = 0.01


def refusal(bucket: str, wait_s: float) -> RateLimited:
    """What a caller is told who must wait for a token for so long."""
    steps = int(wait_s / RETRY_STEP_S) + 1
    return RateLimited(bucket, retry_after_s=round(steps * RETRY_STEP_S, 2))


class Buckets:
    """One bucket for each key, at most `tracked_max` of them.

    The keys used longest ago are forgotten first, which fills their buckets. The memory is
    bounded; a caller with more addresses than that is a matter for the bucket of all.

    A key is kept as its hash, so a bucket takes about 140 bytes however long the key is. Python's
    hash of a text has 64 bits and a secret of this process: of a million keys the chance that any
    two share a bucket is one in thirty million, and nobody can seek one.
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
        self._room = burst + SLACK_TOKENS
        # The scale: so many tokens had flowed at this moment, and so many flow a second since. It
        # runs on while the buckets are switched off.
        self._flowed = 0.0
        self._flowed_at_s = 0.0
        self._flow_per_s = rate_per_s
        self._full_at: Recent[int, float] = Recent(tracked_max)

    @property
    def limited(self) -> bool:
        """False if everything passes."""
        return self._rate_per_s > 0

    @property
    def tracked(self) -> int:
        """Buckets in memory."""
        return len(self._full_at)

    def adopt(self, *, rate_per_s: float, burst: int, now_s: float) -> None:
        """Limit by another rate and burst from now on; what was spent of each bucket stays spent.

        A bucket that lacks more tokens than the new burst has is empty, and no emptier than that.
        """
        self._flowed += (now_s - self._flowed_at_s) * self._flow_per_s
        self._flowed_at_s = now_s
        self._flow_per_s = rate_per_s or self._flow_per_s
        self._rate_per_s = rate_per_s
        self._room = burst + SLACK_TOKENS

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
        bucket = hash(key)
        flowed = self._flowed + (now_s - self._flowed_at_s) * self._flow_per_s
        full_at = self._full_at.get(bucket)
        next_full_at = (full_at if full_at is not None and full_at > flowed else flowed) + 1.0
        lacking = next_full_at - flowed - self._room
        if lacking > 0:
            self._refuse(bucket, flowed, lacking)
        self._full_at.put(bucket, next_full_at)

    def _refuse(self, bucket: int, flowed: float, lacking: float) -> None:
        self._on_refusal()
        if lacking > 1.0:
            # Since the burst is smaller the bucket lacks more tokens than it holds.
            self._full_at.put(bucket, flowed + self._room)
            lacking = 1.0
        raise refusal(self.name, lacking / self._rate_per_s)
