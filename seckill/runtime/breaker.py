"""A circuit breaker for each service that this process calls.

Closed, it lets every call through. Some failures in a row open it: calls are refused at once. After
a pause one call is let through as a trial; it closes the breaker, or the next pause is longer. A
failure is a service that cannot be reached or stands still; a status with our details is an answer.
It is about all replicas: while one of them answers, the failures of another one do not count, which
the balancing leaves out (channel.py).
"""

import math
import random

import grpc
import structlog
from prometheus_client import Counter, Gauge

from seckill.errors import DependencyUnavailable
from seckill.runtime.clock import Clock, SystemClock
from seckill.status import DETAILS_KEY, trailing_metadata

# Failures in a row that open the breaker: more than one broken connection causes.
FAILURES_MAX = 5
# Pauses double from the first to the last. They vary by a fifth, so that replicas do not try in
# step.
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 1.0
# After an answer failures do not count for so long: a replica that goes takes all of its calls down
# in one moment, between two answers of another replica.
ANSWERS_FOR_S = 1.0
# A deadline shorter than this says nothing about the service when it passes.
PATIENCE_S = 1.0

log = structlog.get_logger()
BREAKER_OPEN = Gauge(
    "seckill_breaker_open",
    "1 while the service's circuit breaker is open.",
    ["service"],
)
BREAKER_REFUSALS_TOTAL = Counter(
    "seckill_breaker_refusals_total", "Calls refused by an open circuit breaker.", ["service"]
)


class Breaker:
    """The breaker of one called service, in one process."""

    def __init__(
        self, service: str, *, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        """`service`: name of the called service, for logs and metrics, e.g. "OrderService"."""
        self._service = service
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads pauses, guards nothing
        self._failures = 0
        self._last_answer_s = -math.inf
        # Monotonic time of the next trial; None while the breaker is closed.
        self._next_trial_s: float | None = None
        self._pause_s = PAUSE_MIN_S
        self._open = BREAKER_OPEN.labels(service)
        self._refusals = BREAKER_REFUSALS_TOTAL.labels(service)

    def before_call(self) -> float:
        """Return the monotonic time; raise AioRpcError, UNAVAILABLE with our details, if open."""
        now_s = self._clock.monotonic_s()
        if self._next_trial_s is None:
            return now_s
        if now_s < self._next_trial_s:
            self._refusals.inc()
            raise self._refusal(retry_after_s=self._next_trial_s - now_s)
        # This call is the trial; others are refused until it closes the breaker, or the next pause
        # is over.
        self._pause(now_s)
        return now_s

    def record(
        self, code: grpc.StatusCode, *, answered: bool, begun_s: float, timeout_s: float | None
    ) -> None:
        """Record how a call ended.

        Args:
            begun_s: what `before_call` returned.
            answered: the status carries our details, so it came from the service itself.
            timeout_s: the timeout that the call had; None for none.
        """
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and not answered:
            if timeout_s is not None and timeout_s < PATIENCE_S:
                return
            self._failed(begun_s)
        elif code is grpc.StatusCode.UNAVAILABLE and not answered:
            self._failed(begun_s)
        elif code is not grpc.StatusCode.CANCELLED:
            self._answered()

    def _failed(self, begun_s: float) -> None:
        now_s = self._clock.monotonic_s()
        if self._last_answer_s > min(begun_s, now_s - ANSWERS_FOR_S):
            return
        self._failures += 1
        if self._failures >= FAILURES_MAX and self._next_trial_s is None:
            log.warning("circuit breaker opened", service=self._service)
            self._open.set(1)
            self._pause(now_s)

    def _answered(self) -> None:
        self._last_answer_s = self._clock.monotonic_s()
        self._failures = 0
        if self._next_trial_s is not None:
            log.info("circuit breaker closed", service=self._service)
            self._open.set(0)
            self._next_trial_s = None
            self._pause_s = PAUSE_MIN_S

    def _pause(self, now_s: float) -> None:
        self._next_trial_s = now_s + self._pause_s * self._rng.uniform(0.8, 1.2)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)

    def _refusal(self, *, retry_after_s: float) -> grpc.aio.AioRpcError:
        fault = DependencyUnavailable(
            f"{self._service} does not answer, and its circuit breaker is open",
            retry_after_s=retry_after_s,
        )
        return grpc.aio.AioRpcError(
            fault.code,
            initial_metadata=grpc.aio.Metadata(),
            trailing_metadata=grpc.aio.Metadata(*trailing_metadata(fault)),
            details=str(fault),
        )


def is_answer(trailing: grpc.aio.Metadata | None) -> bool:
    """Return whether the trailing metadata of a failed call carries our details."""
    return any(key == DETAILS_KEY for key, _ in trailing or ())
