"""Which replicas are left out for a while, because most of their calls failed.

A connection may be well, and health too: only failures tell. The rules and their numbers are those
that the channels of gRPC are given in channel.py (gRFC A50). Pure; the time is told.
"""

import math
from collections.abc import Sequence

# How often replicas are judged, by the calls since then.
INTERVAL_S = 2.0
# A replica that had fewer calls is not judged; nor is any while fewer than two had so many.
CALLS_MIN = 3
JUDGED_MIN = 2
# A replica of whose calls a larger share failed is left out.
FAILED_SHARE = 0.85
# For how long: so many seconds more each time, up to the second number.
LEFT_OUT_S = 5.0
LEFT_OUT_MAX_S = 25.0
# At most this share of the replicas is left out.
LEFT_OUT_SHARE = 0.5


class Standing:
    """What the calls of one replica say of it.

    Attributes:
        answered, failed: calls since it was judged last. Every status but OK is a failure.
        left_out: it gets no calls while another replica can have them.
    """

    __slots__ = ("_times", "_until_s", "answered", "failed")

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self._until_s = -math.inf
        self._times = 0

    @property
    def left_out(self) -> bool:
        return self._until_s > -math.inf

    @property
    def is_judged(self) -> bool:
        """Whether it had enough calls."""
        return self.answered + self.failed >= CALLS_MIN

    @property
    def mostly_failed(self) -> bool:
        """Whether too many of its calls failed."""
        return self.is_judged and self.failed > FAILED_SHARE * (self.answered + self.failed)

    def leave_out(self, now_s: float) -> None:
        """Leave it out from now on."""
        self._times += 1
        self._until_s = now_s + min(self._times * LEFT_OUT_S, LEFT_OUT_MAX_S)

    def begin_interval(self, now_s: float) -> None:
        """Count from zero again, and let it in again if its time is over."""
        self.answered = self.failed = 0
        if not self.left_out:
            self._times = max(0, self._times - 1)
        elif now_s >= self._until_s:
            self._until_s = -math.inf


def judge(standings: Sequence[Standing], now_s: float) -> list[Standing]:
    """Judge all replicas of a service by their last interval; returns those newly left out."""
    new: list[Standing] = []
    if sum(standing.is_judged for standing in standings) >= JUDGED_MIN:
        left_out = sum(standing.left_out for standing in standings)
        for standing in standings:
            if left_out + len(new) >= LEFT_OUT_SHARE * len(standings):
                break
            if standing.mostly_failed and not standing.left_out:
                new.append(standing)
    for standing in new:
        standing.leave_out(now_s)
    for standing in standings:
        standing.begin_interval(now_s)
    return new
