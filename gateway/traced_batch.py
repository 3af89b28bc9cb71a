"""The span of a batch: one call to the next service for the calls of many buyers."""

from collections.abc import Sequence

from gateway.front.call import Call
from gateway.front.call_spans import failing_span
from seckill.errors import SeckillError
from seckill.runtime import request_ids, tracing
from seckill.runtime.spans import ERROR_CODES, LINKS_MAX, Span, Tracer
from seckill.runtime.traceparent import TraceContext


class TracedBatch:
    """The span of a call to the next service for many calls, if one of these is traced or fails."""

    def __init__(
        self, tracer: Tracer, calls: Sequence[Call], *, service: str, begun_s: float
    ) -> None:
        """What is done in this task until `end` is below the batch's span."""
        self._tracer = tracer
        self._calls = calls
        self._service = service
        self._begun_s = begun_s
        self._error = ""
        live = tracer.live
        spans = [live[call] for call in calls if call in live] if live else []
        self._span: Span | None = None
        if spans:
            # One trace leads on from its first call; the others find it by their links.
            self._span = self._begin(spans[0].context)
            self._link(self._span, spans)
        tracing.enter(self._span)

    def fail(self, error: SeckillError) -> None:
        """The calls are about to be failed with `error`."""
        if error.code not in ERROR_CODES:
            return
        self._error = error.code.name
        failing = self._failing()
        if self._span is not None:
            self._link(self._span, failing)
        elif self._tracer.admits_error():
            # A call that is alone has given its batch the id; else the batch has one of its own,
            # under which the next service has its lines and its span.
            parent = failing[0].context if failing and len(self._calls) == 1 else None
            self._span = self._begin(parent)
            self._link(self._span, failing)

    def _failing(self) -> list[Span]:
        """The spans that further calls will have: the front ends them as it ends the calls."""
        alone = len(self._calls) == 1
        spans: list[Span] = []
        for call in self._calls:
            if call not in self._tracer.live:
                own = request_ids.current() if alone else call.request_id()
                span = failing_span(call, own)
                if span is not None:
                    spans.append(span)
        return spans

    def end(self) -> None:
        """Hand the span over, if there is one."""
        tracing.enter(None)
        if self._error:
            # Answered before, they have not been ended by the front.
            for call in self._calls:
                self._tracer.live.pop(call, None)
        if self._span is not None:
            self._tracer.end(self._span, error=self._error)

    def _begin(self, parent: TraceContext | None) -> Span:
        tracer = self._tracer
        span = tracer.begin(
            f"batch {self._service}",
            "internal",
            parent=parent,
            trace_id=tracer.trace_id_of(request_ids.current()),
            begun_s=self._begun_s,
        )
        span.attributes["seckill.batch.calls"] = len(self._calls)
        return span

    @staticmethod
    def _link(span: Span, calls: Sequence[Span]) -> None:
        """Link the batch to spans of its calls, and those that are not its parent to it."""
        for call in calls:
            if len(span.links) < LINKS_MAX:
                span.links.append(call.context)
            if call.context != span.parent:
                call.links.append(span.context)
