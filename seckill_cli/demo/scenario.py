"""What the demo does, and what its buyers note down."""

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from seckill.client import Outcome
from seckill_cli.demo.buyer import Attempt

TOKEN_EXPIRED = "PURCHASE_TOKEN_EXPIRED"  # noqa: S105 - a reason, not a secret


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A sale and its crowd.

    Attributes:
        buyers: distinct buyers.
        stock: units for sale.
        seconds: within which the buyers arrive, evenly.
        pay_ratio: share of the first winners who pay, 0 to 1; the others let the time run out.
        repeat_ratio: share of the buyers who buy a second time at once, 0 to 1.
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
    """What became of an attempt.

    REFUSED: it failed, and nothing was bought. UNANSWERED: the buyer does not know.
    """

    RESERVED = "reserved"
    SOLD_OUT = "sold_out"
    ALREADY_PURCHASED = "already_purchased"
    OTHER = "other"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


_ANSWERS = {
    Outcome.RESERVED: Answer.RESERVED,
    Outcome.SOLD_OUT: Answer.SOLD_OUT,
    Outcome.ALREADY_PURCHASED: Answer.ALREADY_PURCHASED,
}


def answer_of(attempt: Attempt) -> Answer:
    """Return what became of an attempt that has ended."""
    if attempt.outcome is not None:
        return _ANSWERS.get(attempt.outcome, Answer.OTHER)
    return Answer.UNANSWERED if attempt.unknown else Answer.REFUSED


@dataclass(kw_only=True)
class Notes:
    """One buyer of the demo: what they will do, and what they were told.

    Attributes:
        arrives_s: seconds after the start.
        buys_twice: whether they buy again at once, with another request.
        pays: whether they pay for what they get.
        attempts: all that they made.
        paid: whether they were told that their payment arrived.
    """

    user_id: str
    arrives_s: float
    buys_twice: bool
    pays: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    paid: bool = False

    @property
    def order_no(self) -> str:
        """The order that they were told of; empty without one."""
        return next((attempt.order_no for attempt in self.attempts if attempt.order_no), "")

    @property
    def sold_out(self) -> bool:
        """Whether they were told last that nothing is left."""
        return bool(self.attempts) and self.attempts[-1].outcome is Outcome.SOLD_OUT

    @property
    def in_doubt(self) -> bool:
        """Whether they may have got an order that they were not told of."""
        return any(attempt.unknown for attempt in self.attempts)


@dataclass(kw_only=True)
class Tally:
    """Counts for the display and the report; latencies in seconds, one an answered attempt.

    Attributes:
        errors: calls that failed, by reason; most of them were repeated.
    """

    attempts: int = 0
    by_answer: Counter[Answer] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    paid: int = 0

    def note(self, attempt: Attempt) -> None:
        """Count one attempt that has ended."""
        self.attempts += 1
        self.by_answer[answer_of(attempt)] += 1
        if attempt.outcome is not None:
            self.latencies_s.append(attempt.latency_s)
        self.errors.update(error.reason or error.code.name for error in attempt.errors)

    def add(self, other: "Tally") -> None:
        """Count what another has counted, too."""
        self.attempts += other.attempts
        self.by_answer += other.by_answer
        self.errors += other.errors
        self.latencies_s += other.latencies_s
        self.paid += other.paid

    def latency_ms(self, quantile: float) -> float:
        """Return a quantile of the latencies in milliseconds; 0 before the first answer."""
        if not self.latencies_s:
            return 0.0
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] * 1000


def draw_arrivals(scenario: Scenario) -> list[tuple[float, bool]]:
    """Return (seconds after the start, buys twice) for each buyer, by arrival."""
    rng = random.Random(scenario.seed)  # noqa: S311 - a crowd, not a secret
    moments = sorted(rng.random() * scenario.seconds for _ in range(scenario.buyers))
    return [(moment, rng.random() < scenario.repeat_ratio) for moment in moments]


def draw_crowd(scenario: Scenario, sku: str) -> list[Notes]:
    """Return the notes of each buyer, empty, by arrival."""
    return [
        Notes(user_id=f"{sku}-buyer-{number}", arrives_s=arrives_s, buys_twice=twice)
        for number, (arrives_s, twice) in enumerate(draw_arrivals(scenario))
    ]
