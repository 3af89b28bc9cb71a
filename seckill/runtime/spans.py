"""Spans, and the tracer, which decides what is traced and makes them."""

import math
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import grpc
from prometheus_client import Counter

from seckill.runtime.traceparent import TraceContext

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Value = str | int | float | bool
# A span of a batch names so many of its calls, as OpenTelemetry does by default.
LINKS_MAX = 128
# Statuses by which a service says that the fault is not the caller's (OpenTelemetry's semantic
# conventions of RPC servers).
ERROR_CODES = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
TRACE_SPANS_TOTAL = Counter(
    "seckill_trace_spans_total",
    "Spans that were made, by their fate: taken by the collector, not taken by it, thrown away"
    " because too many waited, or left out because too many calls failed.",
    ["result"],
)
EXPORTED, FAILED, DROPPED, LEFT_OUT = (
    TRACE_SPANS_TOTAL.labels(result) for result in ("exported", "failed", "dropped", "left_out")
)
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class Span:
    """A step of a trace; may be changed until it ends.

    Attributes:
        context: its place, which later steps name as their parent.
        parent: the place of what caused it; None for the first one.
        begun_s: monotonic time.
        links: other spans that have to do with it.
    """

    __slots__ = ("attributes", "begun_s", "context", "kind", "links", "name", "parent")

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        context: TraceContext,
        parent: TraceContext | None,
        begun_s: float,
    ) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        self.begun_s = begun_s
        self.attributes: dict[str, Value] = {}
        self.links: list[TraceContext] = []


class Recorder(Protocol):
    """Takes spans that have ended, without waiting."""

    def record(self, span: Span, *, start_ns: int, end_ns: int, error: str) -> None:
        """Take a span; times are Unix nanoseconds, `error` says why it failed, "" if it did not."""


class RateBound:
    """So many a second."""

    def __init__(self, per_s_max: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max = per_s_max
        self._clock = clock
        self._second = -1
        self._count = 0

    @property
    def spent(self) -> bool:
        """Whether no further one is within the bound now."""
        return self._count >= self._max and int(self._clock()) == self._second

    def admits(self) -> bool:
        """Count one; whether it is within the bound."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= self._max


class Tracer:
    """Decides what is traced, and hands over spans that have ended.

    Attributes:
        live: spans of calls that are handled together with others, by call.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        share: float,
        errors_per_s_max: int,
        is_first: bool = False,
        callers_per_s_max: float = math.inf,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            share: of the roots that are traced.
            errors_per_s_max: spans of failed calls that were not chosen.
            is_first: calls come from outside; else the service before has decided about them.
            callers_per_s_max: calls that are traced because their callers say so.
        """
        self.live: dict[object, Span] = {}
        self.is_first = is_first
        self._recorder = recorder
        self._share = share
        self._rng = rng or random.Random()  # noqa: S311 - names, and a share; no secret
        self._errors = RateBound(errors_per_s_max, clock=clock)
        self._callers = RateBound(callers_per_s_max, clock=clock)
        self._skip = self._gap()

    def roots(self, count: int) -> Sequence[int]:
        """Return which of the next `count` calls without a trace are traced, by index.

        It costs the same for any number: how many are left out until the next one is drawn ahead.
        """
        if self._skip >= count:
            self._skip -= count
            return ()
        chosen = []
        index = int(self._skip)
        while index < count:
            chosen.append(index)
            gap = self._gap()
            if gap == math.inf:
                self._skip = gap
                return chosen
            index += 1 + int(gap)
        self._skip = index - count
        return chosen

    @property
    def can_follow(self) -> bool:
        """Whether a further call may be traced because its caller says so."""
        return not self._callers.spent

    def follows(self, parent: TraceContext) -> bool:
        """Whether a call is traced because its caller says so; of outsiders so many a second."""
        return parent.sampled and self._callers.admits()

    def wants(self, parent: TraceContext | None) -> bool:
        """Whether a single call is traced."""
        if parent is not None and (self.follows(parent) or not parent.sampled):
            return parent.sampled
        return self.is_first and bool(self.roots(1))

    def admits_error(self) -> bool:
        """Whether a failed call that was not chosen is traced."""
        admitted = self._errors.admits()
        if not admitted:
            LEFT_OUT.inc()
        return admitted

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None,
        trace_id: int | None = None,
        begun_s: float | None = None,
    ) -> Span:
        """Return a new span, below `parent`, or else the first of the trace `trace_id`."""
        if parent is not None:
            trace_id = parent.trace_id
        context = TraceContext(trace_id or self._bits(128), self._bits(64))
        return Span(
            name,
            kind,
            context=context,
            parent=parent,
            begun_s=time.monotonic() if begun_s is None else begun_s,
        )

    def end(self, span: Span, *, error: str = "") -> None:
        """Hand over a span that ends now."""
        end_ns = time.time_ns()
        start_ns = end_ns - int((time.monotonic() - span.begun_s) * 1e9)
        self._recorder.record(span, start_ns=start_ns, end_ns=end_ns, error=error)

    def trace_id_of(self, request_id: str) -> int:
        """Return the trace id that a request id is, with or without dashes; else a new one."""
        text = request_id.replace("-", "")
        return int(text, 16) if _TRACE_ID.fullmatch(text) else self._bits(128)

    def _bits(self, count: int) -> int:
        return self._rng.getrandbits(count) or 1

    def _gap(self) -> float:
        """How many calls are left out until the next one that is traced."""
        if self._share >= 1:
            return 0
        if self._share <= 0:
            return math.inf
        return math.floor(math.log(1 - self._rng.random()) / math.log1p(-self._share))
