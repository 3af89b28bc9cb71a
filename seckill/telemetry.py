"""Logs and metrics, the same in every stage."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import grpc
import structlog
from prometheus_client import Counter, Histogram, start_http_server

from seckill.listening import CannotListen
from seckill.settings import ProcessSettings

# Seconds; from a warm batch to a hopeless call.
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")


def configure_logs(settings: ProcessSettings, *, stage: str, stream: TextIO = sys.stderr) -> None:
    """Structured lines on `stream`, each with the stage's name."""
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(stage=stage)


def serve_metrics(listen: str) -> Iterator[None]:
    """Serve Prometheus metrics on `listen` ("host:port") until the generator is closed.

    Raises:
        CannotListen: it cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host)
    except OSError as error:
        raise CannotListen(listen) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


metrics_server = contextmanager(serve_metrics)


class BatchHistogram(Histogram):
    """A histogram that takes many equal observations at once."""

    def observe_many(self, amount: float, count: int) -> None:
        """As `count` times `observe(amount)`, for the price of one."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call]
        self._sum.inc(amount * count)
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if amount <= bound:
                bucket.inc(count)
                return


class RpcMetrics:
    """Calls of one side, under the names of go-grpc-middleware's Prometheus provider."""

    def __init__(self, side: str) -> None:
        """`side`: "server" or "client"."""
        prefix = f"grpc_{side}"
        self._started = Counter(f"{prefix}_started_total", "Calls begun.", RPC_LABELS)
        self._handled = Counter(
            f"{prefix}_handled_total", "Calls ended, by status.", (*RPC_LABELS, "grpc_code")
        )
        self._received = Counter(f"{prefix}_msg_received_total", "Messages received.", RPC_LABELS)
        self._sent = Counter(f"{prefix}_msg_sent_total", "Messages sent.", RPC_LABELS)
        self._seconds = BatchHistogram(
            f"{prefix}_handling_seconds",
            "Time from begin to end.",
            RPC_LABELS,
            buckets=LATENCY_BUCKETS_S,
        )

    def method(self, path: str, *, streaming: bool) -> "MethodMetrics":
        """The metrics of one method; `path` is "/package.Service/Method"."""
        service, _, method = path.removeprefix("/").partition("/")
        labels = ("server_stream" if streaming else "unary", service, method)
        return MethodMetrics(
            started=self._started.labels(*labels),
            handled=self._handled,
            received=self._received.labels(*labels),
            sent=self._sent.labels(*labels),
            seconds=self._seconds.labels(*labels),
            labels=labels,
        )


class MethodMetrics:
    """The children of one method, looked up once."""

    def __init__(
        self,
        *,
        started: Counter,
        handled: Counter,
        received: Counter,
        sent: Counter,
        seconds: BatchHistogram,
        labels: tuple[str, str, str],
    ) -> None:
        self.started = started
        self.received = received
        self.sent = sent
        self.seconds = seconds
        self._handled = handled
        self._labels = labels
        self._by_code: dict[grpc.StatusCode, Counter] = {}

    def handled(self, code: grpc.StatusCode) -> Counter:
        """Counter of calls that ended with `code`."""
        counter = self._by_code.get(code)
        if counter is None:
            # go-grpc-middleware writes codes as Go does: OK, NotFound, DeadlineExceeded.
            name = "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "")
            counter = self._by_code[code] = self._handled.labels(*self._labels, name)
        return counter

    def batch_begun(self, count: int) -> None:
        """Count calls that arrived together."""
        self.started.inc(count)
        self.received.inc(count)

    def batch_ended(self, code: grpc.StatusCode, count: int, *, seconds: float) -> None:
        """Count unary calls that arrived together and ended together."""
        self.seconds.observe_many(seconds, count)
        self.handled(code).inc(count)
        if code is grpc.StatusCode.OK:
            self.sent.inc(count)

    @contextmanager
    def call(self) -> Iterator["CallOutcome"]:
        """Time one call; its status is whatever the caller sets on the outcome."""
        self.started.inc()
        begun_s = time.perf_counter()
        outcome = CallOutcome()
        try:
            yield outcome
        finally:
            self.seconds.observe(time.perf_counter() - begun_s)
            self.handled(outcome.code).inc()


class CallOutcome:
    """How a call ended; UNKNOWN unless somebody says otherwise."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.UNKNOWN


server_metrics = RpcMetrics("server")
client_metrics = RpcMetrics("client")
