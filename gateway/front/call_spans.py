"""Spans of the calls that the gateway's own front handles in batches.

Most calls are not traced: of those this costs a look at one header field each.
"""

from collections.abc import Callable, Sequence

import grpc

from gateway.front.call import BatchedMethod, Call
from gateway.front.front_metrics import FrontMetrics
from gateway.front.queue import QueuedCall
from seckill.runtime import traceparent, tracing
from seckill.runtime.server_spans import attributes_of
from seckill.runtime.spans import ERROR_CODES, Span, Tracer

# How the header of a call ends that is not to be traced.
UNSAMPLED = "00"
OK = grpc.StatusCode.OK


class TracedFrontMetrics(FrontMetrics):
    """What is told of calls, with the spans of those that are traced: a sample, and all faults."""

    def __init__(
        self, tracer: Tracer, methods: Sequence[BatchedMethod], *, clock: Callable[[], float]
    ) -> None:
        super().__init__(methods, clock=clock)
        self._tracer = tracer
        self._live = tracer.live
        self._paths = [method.path for method in methods]
        # Called for each call: looked up once.
        self._count = super().count

    def begin_batch(self, index: int, calls: Sequence[QueuedCall], now_s: float) -> None:
        super().begin_batch(index, calls, now_s)
        tracer = self._tracer
        for call in calls:
            header = call.traceparent
            # A flood of headers is not even parsed.
            if header is not None and header[-2:] != UNSAMPLED and tracer.can_follow:
                parent = traceparent.parse(header)
                if parent is not None and tracer.follows(parent):
                    self._live[call] = begin_call(tracer, call, request_id="")
        for chosen in tracer.roots(len(calls)):
            call = calls[chosen]
            parent = traceparent.parse(call.traceparent)
            # Who says that a call is not to be traced is followed, too.
            if call not in self._live and (parent is None or parent.sampled):
                self._live[call] = begin_call(tracer, call, request_id=call.request_id())

    def count(self, call: QueuedCall, code: grpc.StatusCode) -> None:
        # Nearly all are OK; the hash of an enum's member is computed in Python.
        if self._live or (code is not OK and code in ERROR_CODES):
            self._end(call, code)
        self._count(call, code)

    def _end(self, call: QueuedCall, code: grpc.StatusCode) -> None:
        span = self._live.pop(call, None)
        failed = code in ERROR_CODES
        if span is None:
            if not failed or not self._tracer.admits_error():
                return
            span = begin_call(self._tracer, call, request_id=call.request_id())
        path = self._paths[call.index]
        span.name = path.removeprefix("/")
        span.attributes |= attributes_of(path)
        span.attributes["rpc.response.status_code"] = code.name
        self._tracer.end(span, error=code.name if failed else "")
        if call.batch is not None:
            self._methods[call.index].show_trace(call.batch.begun_s, span.context.trace_id)


def begin_call(tracer: Tracer, call: QueuedCall, *, request_id: str) -> Span:
    """Return the span of a call, from its arrival on; the front names it when it ends.

    `request_id`: that of the call's lines in the log; a trace that begins here is found by it.
    """
    parent = traceparent.parse(call.traceparent)
    return tracer.begin(
        "",
        "server",
        parent=parent,
        trace_id=None if parent else tracer.trace_id_of(request_id),
        begun_s=call.arrived_s,
    )


def failing_span(call: Call, request_id: str) -> Span | None:
    """Return the span of a call that is about to be failed by a fault of the mesh; None without."""
    tracer = tracing.tracer
    if tracer is None:
        return None
    span = tracer.live.get(call)
    # Those of grpc.aio get theirs from its interceptor; who has left is not answered any more.
    if span is not None or not isinstance(call, QueuedCall) or call.batch is None or call.cancelled:
        return span
    if tracer.admits_error():
        span = tracer.live[call] = begin_call(tracer, call, request_id=request_id)
    return span
