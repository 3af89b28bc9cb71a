"""What became of the buyers, counted by name: in one process, or merged from many."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

# Spans are counted in buckets of this width: small to send, and exact enough for seconds.
SPAN_MS = 10


class Ending(StrEnum):
    """How a visit ended. Everything but the last three is an answer that a buyer can expect."""

    PAID = "paid"
    UNPAID = "left unpaid"
    CANCELLED = "paid too late"
    SOLD_OUT = "sold out"
    ALREADY_PURCHASED = "already purchased"
    LIMIT_EXCEEDED = "limit exceeded"
    NOT_STARTED = "not started"
    ENDED = "ended"
    PAUSED = "paused"
    REJECTED = "rejected by the database"
    # Turned away (429, 503, 504, no connection) for as long as a buyer is patient.
    TURNED_AWAY = "turned away"
    # Bought, but the order did not become visible in time.
    UNSEEN = "order not seen"
    # An answer that no buyer should get.
    FAILED = "failed"


FAULTS = frozenset({Ending.TURNED_AWAY, Ending.UNSEEN, Ending.FAILED})


class Span(StrEnum):
    """What a buyer waits for, from their purchase on."""

    ANSWER = "purchase to answer"
    VISIBLE = "purchase to order"
    PAID = "purchase to paid"


@dataclass
class Tally:
    """Counts of one process, or of all.

    Attributes:
        visits: that have started.
        late: visits of the tail that took longer than the pace, so that the next came late.
        endings: visits by how they ended.
        broken: promises that were broken, by name; must stay empty.
        spans_ms: for each span, buckets of SPAN_MS by their lower bound.
        first_sent_s, last_sent_s: Unix time at which the first and the last buyer sent
            their first purchase.
    """

    visits: int = 0
    late: int = 0
    endings: Counter[Ending] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    spans_ms: dict[Span, Counter[int]] = field(
        default_factory=lambda: {span: Counter() for span in Span}
    )
    first_sent_s: float = float("inf")
    last_sent_s: float = 0.0

    @property
    def ended(self) -> int:
        """Visits that have ended."""
        return self.endings.total()

    @property
    def faults(self) -> int:
        """Visits that ended as none should, and promises that were broken."""
        return sum(self.endings[ending] for ending in FAULTS) + self.broken.total()

    def first_purchase(self, at_s: float) -> None:
        """Note that a buyer sent their first purchase at this Unix time."""
        self.first_sent_s = min(self.first_sent_s, at_s)
        self.last_sent_s = max(self.last_sent_s, at_s)

    def record(self, span: Span, seconds: float) -> None:
        """Count one wait of so many seconds."""
        self.spans_ms[span][int(seconds * 1000) // SPAN_MS * SPAN_MS] += 1

    def add(self, other: Self) -> None:
        """Count what another process has counted."""
        self.visits += other.visits
        self.late += other.late
        self.endings.update(other.endings)
        self.broken.update(other.broken)
        for span, buckets in other.spans_ms.items():
            self.spans_ms[span].update(buckets)
        self.first_sent_s = min(self.first_sent_s, other.first_sent_s)
        self.last_sent_s = max(self.last_sent_s, other.last_sent_s)

    def pack(self) -> dict[str, Any]:
        """Everything as plain data, to be sent."""
        return {
            "visits": self.visits,
            "late": self.late,
            "endings": {ending.name: count for ending, count in self.endings.items()},
            "broken": dict(self.broken),
            "spans_ms": {span.name: list(found.items()) for span, found in self.spans_ms.items()},
            "sent_s": (self.first_sent_s, self.last_sent_s) if self.last_sent_s else (),
        }

    def clear(self) -> None:
        """Begin from nothing, in place: visits under way go on counting here."""
        self.visits = self.late = 0
        self.endings.clear()
        self.broken.clear()
        for buckets in self.spans_ms.values():
            buckets.clear()
        self.first_sent_s, self.last_sent_s = float("inf"), 0.0

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """What another process has packed."""
        tally = cls(
            visits=packed["visits"],
            late=packed["late"],
            endings=Counter({Ending[name]: count for name, count in packed["endings"].items()}),
            broken=Counter(packed["broken"]),
        )
        for name, buckets in packed["spans_ms"].items():
            tally.spans_ms[Span[name]] = Counter(dict(buckets))
        for at_s in packed["sent_s"]:
            tally.first_purchase(at_s)
        return tally
