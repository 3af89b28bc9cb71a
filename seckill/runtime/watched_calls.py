"""What each unary call to another service goes through: its circuit breaker, and its metrics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from seckill.runtime.breaker import Breaker, is_answer
from seckill.runtime.telemetry import CallOutcome, MethodMetrics, client_metrics


class WatchedCalls:
    """Counts each unary call of a channel, and refuses calls while their breaker is open."""

    def __init__(self, service: str, reads: Sequence[str] = (), *, breaks: bool = True) -> None:
        """
        Args:
            service: full name of the called service, e.g. "seckill.v1.OrderService".
            reads: methods with a breaker of their own, so that it is not the others' that opens.
                Anybody may read; what reads do to a service must not stop those who buy.
            breaks: whether there are breakers at all.
        """
        name = service.rpartition(".")[2]
        self._breaker = Breaker(name) if breaks else None
        self._breaker_of_reads = Breaker(f"{name} reads") if breaks else None
        self._reads = frozenset(f"/{service}/{method}" for method in reads)
        self._methods: dict[str, WatchedMethod] = {}

    def method(self, path: str) -> "WatchedMethod":
        """Return what watches the calls of a method; `path`: "/package.Service/Method"."""
        method = self._methods.get(path)
        if method is None:
            breaker = self._breaker_of_reads if path in self._reads else self._breaker
            metrics = client_metrics.method(path, streaming=False)
            method = self._methods[path] = WatchedMethod(metrics, breaker)
        return method


class WatchedMethod:
    """One method; its labels are looked up once."""

    __slots__ = ("_breaker", "_metrics")

    def __init__(self, metrics: MethodMetrics, breaker: Breaker | None) -> None:
        self._metrics = metrics
        self._breaker = breaker

    @contextmanager
    def call(self, timeout_s: float | None) -> Iterator["WatchedCall"]:
        """Watch one call, whose end is told to what is yielded; `timeout_s`: None for none.

        Raises AioRpcError, UNAVAILABLE with our details, while the breaker is open.
        """
        breaker = self._breaker
        begun_s = 0.0 if breaker is None else breaker.before_call()
        with self._metrics.call() as outcome:
            self._metrics.sent.inc()
            yield WatchedCall(self._metrics, breaker, outcome, begun_s, timeout_s)


class WatchedCall:
    """One call that is under way."""

    __slots__ = ("_begun_s", "_breaker", "_metrics", "_outcome", "_timeout_s")

    def __init__(
        self,
        metrics: MethodMetrics,
        breaker: Breaker | None,
        outcome: CallOutcome,
        begun_s: float,
        timeout_s: float | None,
    ) -> None:
        self._metrics = metrics
        self._breaker = breaker
        self._outcome = outcome
        self._begun_s = begun_s
        self._timeout_s = timeout_s

    def end(self, code: grpc.StatusCode, trailing: grpc.aio.Metadata | None = None) -> None:
        """Record how the call ended; `trailing`: the metadata of one that failed."""
        self._outcome.code = code
        answered = code is grpc.StatusCode.OK
        if answered:
            self._metrics.received.inc()
        else:
            answered = is_answer(trailing)
        if self._breaker is not None:
            self._breaker.record(
                code, answered=answered, begun_s=self._begun_s, timeout_s=self._timeout_s
            )
