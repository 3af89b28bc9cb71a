"""Callers: who calls when, and what came of it. Calls that go together are one cohort."""

import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from simpy import Environment, Event

from seckill_cli.scale.costs import ISSUE, RESERVE

RESERVED, SOLD_OUT, REFUSED, LATE = "reserved", "sold out", "refused", "late"
# Stands for all sales that are known to be sold out.
SOLD_OUT_SALE = -1
# Calls of so long are one cohort: far less than a batch takes.
TICK_S = 0.000_5
# Calls that a generator sends in one go.
CHUNK = 16


@dataclass(slots=True)
class Cohort:
    """Calls that were sent together.

    Attributes:
        kind: ISSUE for a token, RESERVE for an attempt.
        since_s: when their buyers came, which is before that if they fetched a token first.
        sent_s: when they were sent.
    """

    kind: str
    sale: int
    since_s: float
    sent_s: float
    count: int

    def split(self, count: int) -> "Cohort":
        """Take so many calls out of it."""
        self.count -= count
        return Cohort(self.kind, self.sale, self.since_s, self.sent_s, count)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Who comes.

    Attributes:
        rate_per_s: an open crowd: buyers a second, at random (Poisson), for `seconds`.
        seconds: how long they come.
        in_flight: a closed crowd instead: so many calls at once until `total` are sent.
        total: calls of a closed crowd.
        tokens: share of the attempts before which a token is fetched.
        gone: share of the attempts that are at a sale of which all know that it is sold out.
        deadline_s: of a call.
    """

    rate_per_s: float = 0.0
    seconds: float = 0.0
    in_flight: int = 0
    total: int = 0
    tokens: float = 0.0
    gone: float = 0.0
    deadline_s: float = 10.0


@dataclass
class Answers:
    """What came of the calls of a crowd.

    Attributes:
        outcomes: attempts by outcome; calls for tokens count only if they were refused or late.
        latencies: (seconds since the buyer came, calls), of attempts that were answered in time.
        last_s: when the last answer came.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, int]] = field(default_factory=list)
    last_s: float = 0.0

    def note(self, cohort: Cohort, outcome: str, now_s: float) -> None:
        """Note calls that ended so."""
        self.outcomes[outcome] += cohort.count
        self.last_s = now_s
        if outcome in (RESERVED, SOLD_OUT):
            self.latencies.append((now_s - cohort.since_s, cohort.count))

    def latency_s(self, share: float) -> float:
        """Return within what time this share of them was answered; 0 if none was."""
        total = sum(count for _, count in self.latencies)
        seen = 0
        for seconds, count in sorted(self.latencies):
            seen += count
            if seen >= share * total:
                return seconds
        return 0.0


class Answered(Protocol):
    """Takes answers."""

    def __call__(self, cohort: Cohort, outcome: str) -> None:
        """Take what came of these calls."""


Send = Callable[[Cohort], None]
Steps = Generator[Event, Any, None]


class Callers:
    """Plays a crowd against gateways, or what stands before them."""

    def __init__(
        self, env: Environment, crowd: Crowd, send: Send, *, sales: int, seed: int
    ) -> None:
        """
        Args:
            send: takes calls in.
            sales: attempts go to them in turn.
            seed: of what is random.
        """
        self.answers = Answers()
        self.sent = 0
        self._env = env
        self._crowd = crowd
        self._send = send
        self._sales = sales
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._open = 0
        self._all_sent = False
        self.done = env.event()
        env.process(self._come() if crowd.rate_per_s else self._start())

    def _come(self) -> Steps:
        crowd = self._crowd
        next_s = self._random.expovariate(crowd.rate_per_s)
        tick = 0
        while self._env.now < crowd.seconds:
            yield self._env.timeout(TICK_S)
            count = 0
            while next_s <= self._env.now and next_s <= crowd.seconds:
                next_s += self._random.expovariate(crowd.rate_per_s)
                count += 1
            tick += 1
            self._let_in(count, tick % self._sales)
        self._all_sent = True
        self._check()

    def _let_in(self, count: int, sale: int) -> None:
        self.sent += count
        late = self._part_of(count, self._crowd.gone)
        for of_sale, some in ((SOLD_OUT_SALE, late), (sale, count - late)):
            first = self._part_of(some, self._crowd.tokens)
            for kind, part in ((ISSUE, first), (RESERVE, some - first)):
                if part:
                    self._go(Cohort(kind, of_sale, self._env.now, self._env.now, part))

    def _part_of(self, count: int, share: float) -> int:
        """Draw how many of so many are in a share of them."""
        if share in (0.0, 1.0):
            return int(count * share)
        return sum(self._random.random() < share for _ in range(count))

    def _start(self) -> Steps:
        """Send the first calls one after the other: at once they would stay together for ever."""
        left = min(self._crowd.in_flight, self._crowd.total)
        turn = 0
        while left:
            yield self._env.timeout(self._random.expovariate(1 / TICK_S))
            part = min(left, CHUNK)
            left -= part
            turn += 1
            self._let_in(part, turn % self._sales)

    def _go(self, cohort: Cohort) -> None:
        self._open += cohort.count
        self._send(cohort)

    def answered(self, cohort: Cohort, outcome: str) -> None:
        """Take an answer; a buyer with a token attempts, and a closed crowd sends the next."""
        self._open -= cohort.count
        now_s = self._env.now
        if cohort.kind == ISSUE and outcome == RESERVED:
            self._go(Cohort(RESERVE, cohort.sale, cohort.since_s, now_s, cohort.count))
            return
        late = now_s - cohort.sent_s > self._crowd.deadline_s
        self.answers.note(cohort, LATE if late else outcome, now_s)
        if self._crowd.in_flight:
            more = min(cohort.count, self._crowd.total - self.sent)
            if more > 0:
                self._let_in(more, cohort.sale)
        self._check()

    def _check(self) -> None:
        """See whether that was all."""
        closed = self._crowd.in_flight and self.sent >= self._crowd.total
        if not self._open and (self._all_sent or closed) and not self.done.triggered:
            self.done.succeed()
