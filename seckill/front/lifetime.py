"""How long a connection lasts: what is silent, stuck or old is closed. Pure; the time is told."""

import math
from enum import Enum

from seckill.front.limits import WRITE_HIGH_BYTES, FrontLimits


class Verdict(Enum):
    """What is to become of a connection."""

    STAYS = "stays"
    # It has never said what HTTP/2 begins with.
    HANDSHAKE = "handshake"
    # Its caller does not read the answers.
    UNREAD = "unread"
    # It has had no call for long.
    IDLE = "idle"
    # It is old: callers are to spread over new replicas.
    AGE = "age"
    # It has been asked to end, and the time for its calls is over.
    GRACE = "grace"


class Lifetime:
    """The times of one connection, monotonic.

    Attributes:
        greeted: the caller's SETTINGS have come.
        busy_s: the last moment at which it had a call.
    """

    __slots__ = (
        "_close_at_s",
        "_limits",
        "_moved_s",
        "_opened_s",
        "_queued",
        "_retire_at_s",
        "_taken",
        "busy_s",
        "greeted",
    )

    def __init__(self, limits: FrontLimits, *, now_s: float, jitter: float) -> None:
        """`jitter`: 0 to 1; connections opened together are not to end together."""
        self._limits = limits
        self._opened_s = self.busy_s = self._moved_s = now_s
        # Between 90 and 110 % of the age, as gRPC's own servers do it.
        self._retire_at_s = now_s + limits.age_max_s * (0.9 + 0.2 * jitter)
        self._close_at_s = math.inf
        self._queued = 0
        self._taken = 0
        self.greeted = False

    @property
    def retiring(self) -> bool:
        """Whether the connection has been asked to end."""
        return self._close_at_s < math.inf

    def retire(self, *, now_s: float, grace_s: float) -> None:
        """The connection is asked to end, and ends in `grace_s` at the latest."""
        self._close_at_s = min(self._close_at_s, now_s + grace_s)
        self._retire_at_s = math.inf

    def verdict(self, *, now_s: float, has_calls: bool, idle_timeout_s: float) -> Verdict:
        """Whether it stays as it is; asked again and again."""
        limits = self._limits
        if not self.greeted:
            late = now_s - self._opened_s > limits.handshake_timeout_s
            return Verdict.HANDSHAKE if late else Verdict.STAYS
        if now_s - self._moved_s > limits.unread_timeout_s or self._queued > (
            limits.unread_bytes_max
        ):
            return Verdict.UNREAD
        if now_s >= self._close_at_s:
            return Verdict.GRACE
        if has_calls:
            self.busy_s = now_s
        elif now_s - self.busy_s > idle_timeout_s and not self.retiring:
            return Verdict.IDLE
        return Verdict.AGE if now_s >= self._retire_at_s else Verdict.STAYS

    def see_answers(self, *, now_s: float, queued: int, buffered: int, written: int) -> None:
        """Notice whether the caller reads.

        Args:
            queued: bytes of answers that its windows have no room for.
            buffered: bytes that its socket has not taken.
            written: all bytes that were ever given to the socket.
        """
        taken = written - buffered
        takes = not buffered or taken > self._taken
        # While the socket is full nothing is taken out of the queue.
        opens = not queued or queued < self._queued or buffered > WRITE_HIGH_BYTES
        if takes and opens:
            self._moved_s = now_s
        self._queued = queued
        self._taken = taken
