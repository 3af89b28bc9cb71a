"""Admission by time: a call is let in while it can still be answered within its own deadline.

What a caller waits is predicted from the calls in flight and the rate at which calls are answered.
That rate is measured rather than configured, and only while there is always something to do: a
gateway with nothing to do answers few calls without being slow. Pure arithmetic; its owner
tells it the time.
"""

import math

# The rate is looked at this often; one tick alone is one or two batches, so it is smoothed.
TICK_S = 0.05
SMOOTHING = 0.2
# With fewer calls in flight than this the gateway is not busy: what it answers then is no measure
# of what it could answer, and no call is refused. It is about 10 ms of work.
BUSY_MIN = 128
# At least so many calls may be with the handlers, however slowly they are answered: a batch that
# another service takes long over is no reason to send it smaller ones.
HANDLED_MIN = 256
# A call that was let in is refused after all when it has waited so much of its share too long.
PATIENCE = 1.2
# Calls are refused undecoded from this share on of the wait at which each of them would be refused,
# so that hardly any is decoded in vain: that costs several times as much.
UNDECODED_SHARE = 0.7
# A connection whose calls are refused is not read for a while, in which more of them gather: this
# share of the wait, so that there is work all the time, and no longer than a caller may notice.
REST_SHARE = 1 / 3
REST_MAX_S = 0.05
# The longest wait that a refusal names: beyond it a prediction is a guess.
RETRY_MAX_S = 5.0
# The longest deadline named on a connection is remembered for this long: one patient caller must
# not keep the others' calls from being refused early for ever.
LONGEST_KEPT_S = 2.0


class ServiceRate:
    """Calls answered a second while busy."""

    def __init__(self) -> None:
        # 0: not known yet.
        self.per_s = 0.0
        self._since_s: float | None = None
        self._answered = 0

    def tick(self, *, now_s: float, answered: int, least_in_flight: int) -> None:
        """Learn from the time since the last tick.

        Args:
            now_s: monotonic time.
            answered: calls answered since the process started.
            least_in_flight: the fewest calls in flight at any moment since the last tick.
        """
        if self._since_s is None:
            self._since_s, self._answered = now_s, answered
            return
        seconds = now_s - self._since_s
        if seconds < TICK_S / 2:
            # A loop that was held up runs two ticks in a row; the second one tells nothing.
            return
        seen = (answered - self._answered) / seconds
        self._since_s, self._answered = now_s, answered
        if least_in_flight >= BUSY_MIN:
            self.per_s = (1 - SMOOTHING) * self.per_s + SMOOTHING * seen if self.per_s else seen
        else:
            # Not always busy: it could have answered at least as many.
            self.per_s = max(self.per_s, seen) if self.per_s else 0.0


class ComingBack:
    """Callers who were refused and not let in since: the work that is due when they come again.

    Each refusal adds one, and the gateway could answer as many as it answers. So those who wait as
    long as they are told come back one after the other, at the pace at which they can be answered.
    """

    def __init__(self) -> None:
        self.callers = 0.0
        self._since_s: float | None = None
        self._refused = 0

    def tick(self, *, now_s: float, refused: int, per_s: float) -> None:
        """Count those since the last tick; `refused`: calls since the start, `per_s`: answered."""
        if self._since_s is not None:
            answered = per_s * (now_s - self._since_s)
            self.callers = max(0.0, self.callers + (refused - self._refused) - answered)
            self.callers = min(self.callers, per_s * RETRY_MAX_S)
        self._since_s, self._refused = now_s, refused


class LongestDeadline:
    """The longest deadline that a connection's calls have named lately."""

    __slots__ = ("_seconds", "_until_s")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until_s = 0.0

    def note(self, seconds: float, now_s: float) -> None:
        """A call has so much left."""
        if seconds >= self._seconds:
            self._seconds = seconds
            self._until_s = now_s + LONGEST_KEPT_S

    def read(self, now_s: float) -> float:
        """Return its seconds; 0 if there was no call lately."""
        if self._until_s < now_s:
            self._seconds = 0.0
        return self._seconds


class TimedAdmission:
    """Decides whether a call may come in, by its deadline and the work before it.

    Attributes:
        in_flight: calls whose requests are there and that are not answered; kept up to date by the
            calls' owner.
        answered: calls answered since the start; kept by the same.
        arrived, urgent_arrived, refused: calls since the start that came, those of them that are
            not refused for the others' sake, and those that were refused as they came; kept by the
            same.
        seconds_a_call: the inverse of the measured rate; 0 as long as it is not known.
    """

    __slots__ = (
        "_ahead_s",
        "_calls_max",
        "_coming_back",
        "_least",
        "_rate",
        "_share",
        "_wait_max_s",
        "answered",
        "arrived",
        "in_flight",
        "refused",
        "seconds_a_call",
        "urgent_arrived",
    )

    def __init__(
        self, *, calls_max: int, wait_share: float, wait_max_s: float, ahead_s: float
    ) -> None:
        """
        Args:
            calls_max: calls in flight, however fast they are answered.
            wait_share: of its own deadline that a call may wait.
            wait_max_s: that a call may wait, however long its deadline.
            ahead_s: work, in seconds, that the handlers may hold at once.
        """
        self._calls_max = calls_max
        self._share = wait_share
        self._wait_max_s = wait_max_s
        self._ahead_s = ahead_s
        self._rate = ServiceRate()
        self._coming_back = ComingBack()
        self._least = 0
        self.in_flight = 0
        self.answered = 0
        self.arrived = self.urgent_arrived = self.refused = 0
        self.seconds_a_call = 0.0

    @property
    def wait_s(self) -> float:
        """What a call that arrives now would wait; 0 while the rate is not known."""
        return self.in_flight * self.seconds_a_call

    @property
    def is_busy(self) -> bool:
        """Whether so many calls are in flight that some may be refused."""
        return self.in_flight >= BUSY_MIN

    def refuses(self, timeout_s: float, *, ahead: int | None = None) -> bool:
        """Whether a call with `timeout_s` left would wait too long.

        Args:
            timeout_s: infinity if the caller set no deadline.
            ahead: calls that are answered before it, if not all that are in flight.
        """
        if self.in_flight >= self._calls_max:
            return True
        ahead = self.in_flight if ahead is None else ahead
        return self.is_busy and self._is_long(ahead * self.seconds_a_call, timeout_s)

    def refuses_all(self, longest_timeout_s: float) -> bool:
        """Whether every call is refused whose deadline is no longer; 0 where none is known."""
        if self.in_flight >= self._calls_max:
            return True
        longest_s = longest_timeout_s or math.inf
        return self.is_busy and self._is_long(self.wait_s / UNDECODED_SHARE, longest_s)

    def _is_long(self, wait_s: float, timeout_s: float) -> bool:
        return wait_s > self._wait_max_s or wait_s > self._share * timeout_s

    @property
    def rest_s(self) -> float:
        """How long a connection whose calls are refused need not be read."""
        return min(REST_SHARE * self.wait_s, REST_MAX_S)

    def patience_s(self, timeout_s: float) -> float:
        """How long a call that was let in may wait for its turn."""
        return PATIENCE * min(self._share * timeout_s, self._wait_max_s)

    def retry_wait_s(self, unknown_s: float) -> float:
        """What a refused caller is told to wait, before jitter: until those who are in flight, and
        those who were told so before, have been answered.
        """
        calls = self.in_flight + self._coming_back.callers
        return min(calls * self.seconds_a_call, RETRY_MAX_S) or unknown_s

    def room(self, handled: int) -> int:
        """How many more calls the handlers may get, `handled` of which they have."""
        if not self.seconds_a_call:
            return self._calls_max - handled
        most = max(HANDLED_MIN, int(self._ahead_s / self.seconds_a_call))
        return min(most, self._calls_max) - handled

    def sample(self) -> None:
        """Notice how few calls are in flight; to be called when many have just ended."""
        self._least = min(self._least, self.in_flight)

    def tick(self, now_s: float) -> None:
        """Measure; to be called every TICK_S."""
        self.sample()
        rate = self._rate
        rate.tick(now_s=now_s, answered=self.answered, least_in_flight=self._least)
        # A rate of next to nothing is a service that hangs: the wait must stay a number.
        self.seconds_a_call = 1 / max(rate.per_s, 1.0) if rate.per_s else 0.0
        self._coming_back.tick(now_s=now_s, refused=self.refused, per_s=rate.per_s)
        self._least = self.in_flight
