"""What the demo does, and what its buyers note down."""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A sale and its crowd.

    Attributes:
        buyers: distinct buyers.
        stock: units for sale.
        seconds: within which the buyers arrive, evenly.
        pay_ratio: share of the first winners who pay, 0 to 1; the others let the time run out.
        repeat_ratio: share of the buyers who press twice, 0 to 1.
        payment_window_s: time to pay.
        seed: of everything that is drawn by lot.
    """

    buyers: int = 10_000
    stock: int = 100
    seconds: float = 5.0
    pay_ratio: float = 0.6
    repeat_ratio: float = 0.1
    payment_window_s: float = 6.0
    seed: int = 1


class Answer(StrEnum):
    """What a buyer was told last."""

    NONE = "none"
    RESERVED = "reserved"
    SOLD_OUT = "sold_out"
    ALREADY_PURCHASED = "already_purchased"
    OTHER = "other"
    FAILED = "failed"


@dataclass(kw_only=True)
class Buyer:
    """One buyer and his own notes: what he asked for and what he was told.

    Attributes:
        answer: the last answer to a press of the button.
        order_no: the order he was told of; empty without one.
        paid: whether he was told that his payment arrived.
        request_ids: of his presses.
    """

    user_id: str
    identity: tuple[tuple[str, str], ...]
    arrives_s: float
    presses_twice: bool
    pays: bool
    answer: Answer = Answer.NONE
    order_no: str = ""
    paid: bool = False
    request_ids: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Tally:
    """Counts for the display and the report; latencies in seconds, one an attempt."""

    attempts: int = 0
    by_answer: Counter[Answer] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    paid: int = 0

    def note(self, answer: Answer, latency_s: float) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.by_answer[answer] += 1
        self.latencies_s.append(latency_s)

    def add(self, other: "Tally") -> None:
        """Count what another has counted, too."""
        self.attempts += other.attempts
        self.by_answer += other.by_answer
        self.errors += other.errors
        self.latencies_s += other.latencies_s
        self.paid += other.paid

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the latencies in milliseconds; 0 before the first attempt."""
        if not self.latencies_s:
            return 0.0
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1000


def draw_arrivals(scenario: Scenario) -> list[tuple[float, bool]]:
    """(seconds after the start, presses twice) for each buyer, by arrival."""
    rng = random.Random(scenario.seed)  # noqa: S311 - a crowd, not a secret
    moments = sorted(rng.random() * scenario.seconds for _ in range(scenario.buyers))
    return [(moment, rng.random() < scenario.repeat_ratio) for moment in moments]
