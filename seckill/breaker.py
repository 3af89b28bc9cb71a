"""A breaker in front of each stage that is called: while it does not answer, it is not asked.

Closed it lets everything through. After some failures in a row it opens: calls are refused at once.
After a pause one call is let through; it closes the breaker, or makes the next pause longer. A
failure is a stage that cannot be reached or stands still; a status with our details is an answer.
"""

import random

import grpc
import structlog
from prometheus_client import Counter, Gauge

from seckill.clock import Clock, SystemClock
from seckill.errors import DETAILS_KEY, DependencyUnavailable, trailing_metadata

# Failures in a row that open it: more than a connection that breaks under a few calls causes.
FAILURES_MAX = 5
# Pauses double from the first to the last; a fifth of chance keeps replicas from asking in step.
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 1.0
# A call that was given less time than this says nothing about the stage when the time is over.
PATIENCE_S = 1.0

log = structlog.get_logger()
OPEN = Gauge(
    "seckill_breaker_open", "1 while a stage is not asked because it does not answer.", ["stage"]
)
REFUSALS = Counter(
    "seckill_breaker_refusals", "Calls refused because a stage does not answer.", ["stage"]
)


class Breaker:
    """One stage as seen from one process."""

    def __init__(
        self, stage: str, *, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        """`stage`: name of the service, for the metrics, e.g. "OrderService"."""
        self._stage = stage
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads pauses, guards nothing
        self._failures = 0
        # Monotonic time of the next try; None while it is closed.
        self._next_try_s: float | None = None
        self._pause_s = PAUSE_MIN_S
        self._open = OPEN.labels(stage)
        self._refusals = REFUSALS.labels(stage)

    def pass_call(self) -> None:
        """Raises AioRpcError, UNAVAILABLE with our details, where a call must not be made."""
        if self._next_try_s is None:
            return
        now_s = self._clock.monotonic_s()
        if now_s < self._next_try_s:
            self._refusals.inc()
            raise self._refusal(retry_after_s=self._next_try_s - now_s)
        # This one is the try; others wait for what becomes of it, or for the next pause.
        self._pause(now_s)

    def ended(self, code: grpc.StatusCode, *, answered: bool, timeout_s: float | None) -> None:
        """Note how a call ended.

        Args:
            answered: the status carries our details, so it is the stage that speaks.
            timeout_s: what the call was given; None for no limit.
        """
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and not answered:
            if timeout_s is not None and timeout_s < PATIENCE_S:
                return
            self._failed()
        elif code is grpc.StatusCode.UNAVAILABLE and not answered:
            self._failed()
        elif code is not grpc.StatusCode.CANCELLED:
            self._answered()

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES_MAX and self._next_try_s is None:
            log.warning("stage is not asked for the time being", stage=self._stage)
            self._open.set(1)
            self._pause(self._clock.monotonic_s())

    def _answered(self) -> None:
        self._failures = 0
        if self._next_try_s is not None:
            log.info("stage is asked again", stage=self._stage)
            self._open.set(0)
            self._next_try_s = None
            self._pause_s = PAUSE_MIN_S

    def _pause(self, now_s: float) -> None:
        self._next_try_s = now_s + self._pause_s * self._rng.uniform(0.8, 1.2)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)

    def _refusal(self, *, retry_after_s: float) -> grpc.aio.AioRpcError:
        fault = DependencyUnavailable(
            f"{self._stage} does not answer and is not asked for the time being",
            retry_after_s=retry_after_s,
        )
        return grpc.aio.AioRpcError(
            fault.code,
            initial_metadata=grpc.aio.Metadata(),
            trailing_metadata=grpc.aio.Metadata(*trailing_metadata(fault)),
            details=str(fault),
        )


def is_answer(trailing: grpc.aio.Metadata | None) -> bool:
    """Whether trailing metadata of a failed call carries our details."""
    return any(key == DETAILS_KEY for key, _ in trailing or ())
