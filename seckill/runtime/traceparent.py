"""The header `traceparent` (https://www.w3.org/TR/trace-context/): read, and written."""

import re
from typing import NamedTuple

HEADER = "traceparent"
_SAMPLED = 1
# Version, trace id, parent id, flags; version 00 ends there, later ones may append fields. All
# zeros are no id.
PATTERN = re.compile(
    r"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2})"
    r"-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


class TraceContext(NamedTuple):
    """A span's place: what callers send, and what the next service is sent."""

    trace_id: int
    span_id: int
    sampled: bool = True

    @property
    def header(self) -> str:
        """The value of `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


def parse(value: str | None) -> TraceContext | None:
    """Return what a header says; None if there is none, or it is malformed."""
    found = PATTERN.fullmatch(value) if value else None
    if found is None:
        return None
    trace_id, span_id, flags = (int(group, 16) for group in found.groups())
    return TraceContext(trace_id, span_id, bool(flags & _SAMPLED))
