"""Spans of the calls that a grpc.aio server handles, one by one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from seckill.runtime import request_ids, traceparent, tracing
from seckill.runtime.spans import ERROR_CODES, Span, Tracer, Value
from seckill.runtime.telemetry import CallOutcome, MethodMetrics

# Health checks and reflection say nothing of a sale.
_NOT_OURS = "/grpc."


def attributes_of(path: str) -> dict[str, Value]:
    """Return what the spans of a method say, by OpenTelemetry's conventions; `path` as gRPC's."""
    return {"rpc.system.name": "grpc", "rpc.method": path.removeprefix("/")}


class TracedCall:
    """Stands for the metrics of a method during one call, and makes its span when it ends."""

    def __init__(
        self, tracer: Tracer, path: str, metadata: Iterable[tuple[str, Any]], metrics: MethodMetrics
    ) -> None:
        """Decide whether the call is traced; from now on its lines in the log name the trace."""
        header = next((value for key, value in metadata if key == traceparent.HEADER), None)
        self.received = metrics.received
        self.sent = metrics.sent
        self._metrics = metrics
        self._tracer = tracer
        self._path = path
        self._parent = traceparent.parse(header)
        self._span: Span | None = None
        if tracer.wants(self._parent):
            self._span = self._begin()
        tracing.enter(self._span)

    @contextmanager
    def call(self) -> Iterator[CallOutcome]:
        """As MethodMetrics.call."""
        span = self._span or self._begin()
        with self._metrics.call() as outcome:
            try:
                yield outcome
            finally:
                failed = outcome.code in ERROR_CODES
                if self._span is not None or (failed and self._tracer.admits_error()):
                    span.attributes |= attributes_of(self._path)
                    span.attributes["rpc.response.status_code"] = outcome.code.name
                    self._tracer.end(span, error=outcome.code.name if failed else "")
                    self._metrics.show_trace(span.begun_s, span.context.trace_id)

    def _begin(self) -> Span:
        trace_id = self._tracer.trace_id_of(request_ids.current())
        name = self._path.removeprefix("/")
        return self._tracer.begin(name, "server", parent=self._parent, trace_id=trace_id)


def open_call(
    path: str, metadata: Iterable[tuple[str, Any]], metrics: MethodMetrics
) -> MethodMetrics | TracedCall:
    """Return what counts a call, and traces it if traces are on."""
    tracer = tracing.tracer
    if tracer is None or path.startswith(_NOT_OURS):
        return metrics
    return TracedCall(tracer, path, metadata, metrics)
