"""Traces: which step is done now, and spans for further ones, which are made once they have ended.

Off, which is the default, `tracer` is None, which is looked at once a batch. On, a call that is not
traced costs a look at its header. Spans are sent by otlp.py.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import grpc
from structlog.contextvars import bind_contextvars, unbind_contextvars

from seckill.runtime import request_ids, traceparent
from seckill.runtime.spans import LINKS_MAX, Kind, Span, Tracer, Value
from seckill.runtime.traceparent import TraceContext

_FIELDS = ("trace_id", "span_id")
# Stands for the span of a block that is not traced; the same for all of them.
NOTHING: AbstractContextManager[None] = nullcontext()
_current: ContextVar[Span | None] = ContextVar("span", default=None)

# None while traces are off.
tracer: Tracer | None = None


@contextmanager
def installed(new: Tracer) -> Iterator[Tracer]:
    """Trace with `new` meanwhile."""
    global tracer  # noqa: PLW0603 - of the process, as its metrics are
    tracer = new
    try:
        yield new
    finally:
        tracer = None


def current() -> Span | None:
    """Return the step that is done now; None if it is not traced."""
    return _current.get()


def enter(span: Span | None) -> None:
    """Do what comes in this task below that step; its lines in the log name the trace."""
    if span is not None:
        trace_id, span_id, _ = span.context
        bind_contextvars(trace_id=f"{trace_id:032x}", span_id=f"{span_id:016x}")
    elif _current.get() is not None:
        unbind_contextvars(*_FIELDS)
    _current.set(span)


@contextmanager
def below(span: Span | None) -> Iterator[None]:
    """Do what is in the block below that step."""
    before = _current.get()
    enter(span)
    try:
        yield
    finally:
        enter(before)


def step(
    name: str, kind: Kind, attributes: dict[str, Value]
) -> AbstractContextManager[Span | None]:
    """Return a span for a block, below the current one; None if that is not traced."""
    parent = _current.get()
    if tracer is None or parent is None:
        return NOTHING
    return _step(tracer, parent, name, kind, attributes)


@contextmanager
def _step(
    tracer: Tracer, parent: Span, name: str, kind: Kind, attributes: dict[str, Value]
) -> Iterator[Span]:
    span = tracer.begin(name, kind, parent=parent.context)
    span.attributes = attributes
    error = ""
    try:
        with below(span):
            yield span
    except BaseException as fault:
        error = describe(fault)
        raise
    finally:
        tracer.end(span, error=error)


def work(
    name: str,
    kind: Kind,
    attributes: dict[str, Value],
    *,
    causes: Sequence[TraceContext] = (),
    root: bool = False,
) -> AbstractContextManager[Span | None]:
    """Return a span for work that no call waits for, below the first of `causes`, linked to all.

    Without causes it is the first of its trace: a share of those that may be (`root`), and of all
    those that fail, which are found under the request id that their lines in the log have. None
    while it is not traced.
    """
    if tracer is None:
        return NOTHING
    return _work(tracer, name, kind, attributes, causes=causes, root=root)


@contextmanager
def _work(
    tracer: Tracer,
    name: str,
    kind: Kind,
    attributes: dict[str, Value],
    *,
    causes: Sequence[TraceContext],
    root: bool,
) -> Iterator[Span | None]:
    begun_s = time.monotonic()

    def begin() -> Span:
        parent = causes[0] if causes else None
        trace_id = tracer.trace_id_of(request_ids.current())
        span = tracer.begin(name, kind, parent=parent, trace_id=trace_id, begun_s=begun_s)
        span.attributes = attributes
        span.links = [*causes[:LINKS_MAX]]
        return span

    span = begin() if causes or (root and tracer.roots(1)) else None
    error = ""
    try:
        with below(span):
            yield span
    except Exception as fault:
        error = describe(fault)
        raise
    finally:
        if span is None and error and tracer.admits_error():
            span = begin()
        if span is not None:
            tracer.end(span, error=error)


def describe(error: BaseException) -> str:
    """Return what a span says of a failure: never the text of a library, which may hold secrets."""
    code = getattr(error, "code", None)
    return code.name if isinstance(code, grpc.StatusCode) else type(error).__name__


def outgoing() -> tuple[tuple[str, str], ...]:
    """Return the metadata that names the call to the next service, and its place in a trace."""
    named = request_ids.outgoing()
    span = _current.get()
    return named if span is None else (*named, (traceparent.HEADER, span.context.header))
