"""Traces of a test's own process: what is kept of them, and a clock that a test sets."""

from seckill.runtime.spans import Span
from seckill.runtime.traceparent import TraceContext

# A caller's own place in a trace, and the header that says so.
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
CALLER = TraceContext(int(TRACE_ID, 16), int("00f067aa0ba902b7", 16))


class Kept:
    """Keeps the spans that ended, and by what those failed that did."""

    def __init__(self) -> None:
        self.spans: list[tuple[Span, str]] = []

    def record(self, span: Span, *, start_ns: int, end_ns: int, error: str) -> None:
        """Take a span, as a recorder does."""
        assert start_ns <= end_ns
        self.spans.append((span, error))

    def named(self, name: str) -> list[Span]:
        """Return the spans of this name."""
        return [span for span, _ in self.spans if span.name == name]


class Clock:
    """Stands still until it is set."""

    now_s = 100.0

    def __call__(self) -> float:
        """Return monotonic time."""
        return self.now_s
