"""Logs and metrics, alike in every service."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

import grpc
import structlog
from prometheus_client import Counter, Histogram, disable_created_metrics, start_http_server
from prometheus_client.samples import Exemplar

from seckill.runtime.listening import CannotListen
from seckill.runtime.settings import ProcessSettings

# In seconds: from a warm batch to a call that no caller waits for any more.
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# (does the request stream?, does the response stream?) → value of the label grpc_type.
GRPC_TYPES = {
    (False, False): "unary",
    (False, True): "server_stream",
    (True, False): "client_stream",
    (True, True): "bidi_stream",
}

log = structlog.get_logger()


def configure_logs(settings: ProcessSettings, *, service: str, stream: TextIO = sys.stdout) -> None:
    """Write structured lines to `stream`, each with the service's name.

    So do libraries, warnings, and exceptions that nobody catches. What is written by C libraries
    (gRPC's core) and by the interpreter as it dies stays on standard error.
    """
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    shared: list[Any] = [
        _with_service(service),
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # Libraries say at lower levels what they do, for their own authors.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _with_service(service: str) -> Callable[..., Any]:
    # Not a context variable: threads of libraries have contexts of their own.

    def add(_logger: object, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
        fields.setdefault("service", service)
        return fields

    return add


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    log.critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is not None:
        name = uncaught.thread.name if uncaught.thread else ""
        log.critical("uncaught exception", thread=name, exc_info=uncaught.exc_value)


def _log_unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    log.error("exception ignored", where=repr(ignored.object), exc_info=ignored.exc_value)


def serve_metrics(listen: str) -> Iterator[None]:
    """Serve Prometheus metrics on `listen` ("host:port") until the generator is closed.

    Raises:
        CannotListen: the address cannot be bound.
    """
    # When a series was created is of no use here, and would double the series of all counters.
    disable_created_metrics()  # type: ignore[no-untyped-call]
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
        """Observe `amount` `count` times, at the cost of one observation."""
        self._raise_if_not_observable()  # type: ignore[no-untyped-call]
        self._sum.inc(amount * count)
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if amount <= bound:
                bucket.inc(count)
                return

    def show_trace(self, amount: float, trace_id: int) -> None:
        """Name the trace of an observation of `amount` as the exemplar of its bucket."""
        exemplar = Exemplar({"trace_id": f"{trace_id:032x}"}, amount, time.time())
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if amount <= bound:
                bucket.set_exemplar(exemplar)
                return


class RpcMetrics:
    """Metrics of the calls of one side, named as go-grpc-middleware's Prometheus provider does."""

    def __init__(self, side: str) -> None:
        """`side`: "server" or "client"."""
        prefix = f"grpc_{side}"
        self._started = Counter(f"{prefix}_started_total", "Calls started.", RPC_LABELS)
        self._handled = Counter(
            f"{prefix}_handled_total", "Calls ended, by status code.", (*RPC_LABELS, "grpc_code")
        )
        self._received = Counter(f"{prefix}_msg_received_total", "Messages received.", RPC_LABELS)
        self._sent = Counter(f"{prefix}_msg_sent_total", "Messages sent.", RPC_LABELS)
        self._seconds = BatchHistogram(
            f"{prefix}_handling_seconds",
            "Time from the start of a call to its end.",
            RPC_LABELS,
            buckets=LATENCY_BUCKETS_S,
        )

    def method(
        self, path: str, *, streaming: bool, request_streaming: bool = False
    ) -> "MethodMetrics":
        """Return the metrics of one method.

        Args:
            path: "/package.Service/Method".
            streaming: its responses are a stream.
            request_streaming: its requests are a stream.
        """
        service, _, method = path.removeprefix("/").partition("/")
        labels = (GRPC_TYPES[request_streaming, streaming], service, method)
        return MethodMetrics(
            started=self._started.labels(*labels),
            handled=self._handled,
            received=self._received.labels(*labels),
            sent=self._sent.labels(*labels),
            seconds=self._seconds.labels(*labels),
            labels=labels,
        )


class MethodMetrics:
    """The metrics of one method, their labels looked up once."""

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
        """Return the counter of calls that ended with `code`."""
        counter = self._by_code.get(code)
        if counter is None:
            # go-grpc-middleware writes codes as Go does: OK, NotFound, DeadlineExceeded.
            name = "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "")
            counter = self._by_code[code] = self._handled.labels(*self._labels, name)
        return counter

    def declare_codes(self) -> None:
        """Export a series for each status from the start, so that the first one is an increase."""
        for code in grpc.StatusCode:
            self.handled(code)

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

    def show_trace(self, begun_s: float, trace_id: int) -> None:
        """Name the trace of a call that began at monotonic time `begun_s` and ends now."""
        self.seconds.show_trace(time.monotonic() - begun_s, trace_id)

    @contextmanager
    def call(self) -> Iterator["CallOutcome"]:
        """Count and time one call; its code is the one set on the outcome that is yielded."""
        self.started.inc()
        started_s = time.perf_counter()
        outcome = CallOutcome()
        try:
            yield outcome
        finally:
            self.seconds.observe(time.perf_counter() - started_s)
            self.handled(outcome.code).inc()


class CallOutcome:
    """How a call ended; UNKNOWN until it is set."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.UNKNOWN


server_metrics = RpcMetrics("server")
client_metrics = RpcMetrics("client")
