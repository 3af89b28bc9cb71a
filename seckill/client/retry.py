"""How often, how long and with which pauses a call is repeated."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from seckill.client.errors import CallFailed, TryLater


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a call is repeated.

    Attributes:
        attempts_max: with so many failed calls the last failure is raised, e.g. 1 repeats nothing;
            None leaves it to the deadline.
        attempt_timeout_s: longest time for one call, so that one lost reply does not use up all.
        pause_min_s: first pause if the reply names none; it doubles with each failure.
        pause_max_s: longest pause of that kind.
        jitter: a pause is longer by up to this share of itself, so that callers who were refused
            together do not come back together.
    """

    attempts_max: int | None = None
    attempt_timeout_s: float = 5.0
    pause_min_s: float = 0.05
    pause_max_s: float = 2.0
    jitter: float = 0.25


@dataclass
class Deadline:
    """The time that is left for a call and its repetitions.

    Attributes:
        policy: how it is repeated.
        timeout_s: seconds from now.
        clock: monotonic seconds.
        rng: spreads the pauses.
    """

    policy: RetryPolicy
    timeout_s: float
    clock: Callable[[], float]
    rng: random.Random
    _failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._end_s = self.clock() + self.timeout_s

    def left_s(self) -> float:
        """Return the seconds left, 0 if the time is over."""
        return max(0.0, self._end_s - self.clock())

    def attempt_s(self) -> float:
        """Return the seconds that the next call may take."""
        return min(self.policy.attempt_timeout_s, self.left_s())

    def spread(self, pause_s: float) -> float:
        """Return a pause with jitter."""
        return pause_s * (1 + self.policy.jitter * self.rng.random())

    def pause_after(self, failure: CallFailed) -> float:
        """Return the seconds to wait before the call is repeated.

        Raises:
            CallFailed: the failure, if it is no passing one, or there is no time or attempt left.
        """
        if not failure.retryable or not is_transient(failure):
            raise failure
        return self.backoff_after(failure)

    def backoff_after(self, failure: CallFailed) -> float:
        """Return the next pause in seconds, whatever the failure; raises it if none is left."""
        self._failures += 1
        policy = self.policy
        if policy.attempts_max is not None and self._failures >= policy.attempts_max:
            raise failure
        pause_s = min(policy.pause_max_s, policy.pause_min_s * 2 ** min(self._failures - 1, 30))
        if failure.retry_after_s is not None:
            pause_s = max(failure.retry_after_s, policy.pause_min_s)
        pause_s = self.spread(pause_s)
        if pause_s >= self.left_s():
            raise failure
        return pause_s


def is_transient(failure: CallFailed) -> bool:
    """Whether the same call may be answered later: the reply asks for it, or none came."""
    return isinstance(failure, TryLater) or failure.retry_after_s is not None
