"""The gateway: turns of its loop, a batcher for each sale, and admission by time."""

from collections import deque
from collections.abc import Generator
from typing import Any, Protocol

from simpy import Environment, Event

from seckill_cli.scale.admission import Admission
from seckill_cli.scale.cores import Server
from seckill_cli.scale.costs import GATEWAY, ISSUE, REFUSE, RESERVE, SHED, Costs
from seckill_cli.scale.crowd import LATE, REFUSED, RESERVED, SOLD_OUT, Answered, Cohort
from seckill_cli.scale.layout import Limits
from seckill_cli.scale.stock import Stock

Steps = Generator[Event, Any, Any]


class Behind(Protocol):
    """What a gateway asks."""

    def issue(self, count: int) -> Event:
        """Charge the shared buckets of so many callers for tokens."""

    def reserve(self, sale: int, attempts: int) -> Event:
        """Decide so many attempts; the event's value is how many reserve."""


class _Batcher:
    """The queue of one sale; its batches go one beside the other as in gateway/batching.py."""

    def __init__(self) -> None:
        self.queue: deque[Cohort] = deque()
        self.count = 0
        self.since_s = 0.0
        self.senders = 0
        self.due = False


class Gateway:
    """One process."""

    def __init__(
        self,
        env: Environment,
        server: Server,
        behind: Behind,
        stock: Stock,
        costs: Costs,
        limits: Limits,
        *,
        deadline_s: float,
        answered: Answered,
    ) -> None:
        self._env = env
        self._server = server
        self._behind = behind
        self._stock = stock
        self._limits = limits
        self._deadline_s = deadline_s
        self._answered = answered
        self._admission = Admission(env, limits, deadline_s)
        self._batchers: dict[int, _Batcher] = {}
        self._inbox: list[Cohort] = []
        self._outbox: list[tuple[list[tuple[Cohort, str]], float, Event]] = []
        self._idle = env.event()
        self._issue = costs.of(GATEWAY, ISSUE)
        self._reserve = costs.of(GATEWAY, RESERVE)
        self._refuse = costs.of(GATEWAY, REFUSE)
        self._shed = costs.of(GATEWAY, SHED)
        self.batches = 0
        self.batched = 0
        env.process(self._run())

    def take(self, cohort: Cohort) -> None:
        """Take calls in."""
        self._inbox.append(cohort)
        self._wake()

    def _wake(self) -> None:
        if not self._idle.triggered:
            self._idle.succeed()

    def _run(self) -> Steps:
        """Turn after turn: what has come since the last one, and what has been answered since."""
        while True:
            if not self._inbox and not self._outbox:
                self._idle = self._env.event()
                yield self._idle
            came, self._inbox = self._inbox, []
            went, self._outbox = self._outbox, []
            seconds = sum(cost_s for _, cost_s, _ in went)
            answers: list[tuple[Cohort, str]] = []
            tokens: list[Cohort] = []
            for cohort in came:
                seconds += self._admit(cohort, answers, tokens)
            yield self._server.work(seconds)
            for batch, _, told in went:
                self._answer(batch)
                told.succeed()
            for cohort, outcome in answers:
                self._answered(cohort, outcome)
            if tokens:
                self._env.process(self._issue_tokens(tokens))
            for sale in self._batchers:
                self._flush(sale)

    def _admit(
        self, cohort: Cohort, answers: list[tuple[Cohort, str]], tokens: list[Cohort]
    ) -> float:
        """Sort calls by what becomes of them; return what that takes."""
        if cohort.kind == RESERVE and self._stock.known_gone(cohort.sale):
            answers.append((cohort, SOLD_OUT))
            return self._refuse.of(cohort.count)
        admitted = self._admission.admit(cohort.count)
        seconds = 0.0
        if admitted < cohort.count:
            shed = cohort.split(cohort.count - admitted)
            answers.append((shed, REFUSED))
            seconds = self._shed.of(shed.count)
        if not admitted:
            return seconds
        if cohort.kind == ISSUE:
            tokens.append(cohort)
            return seconds + self._issue.item_s * admitted
        batcher = self._batchers.setdefault(cohort.sale, _Batcher())
        if not batcher.queue:
            batcher.since_s = self._env.now
        batcher.queue.append(cohort)
        batcher.count += admitted
        return seconds + self._reserve.item_s / 2 * admitted

    def _answer(self, batch: list[tuple[Cohort, str]]) -> None:
        for cohort, outcome in batch:
            self._admission.answered(cohort.count)
            self._answered(cohort, outcome)

    def _issue_tokens(self, tokens: list[Cohort]) -> Steps:
        yield self._behind.issue(sum(cohort.count for cohort in tokens))
        self._outbox.append(
            ([(cohort, RESERVED) for cohort in tokens], self._issue.batch_s, self._env.event())
        )
        self._wake()

    def _flush(self, sale: int) -> None:
        batcher = self._batchers[sale]
        limits = self._limits
        if not batcher.count or batcher.senders >= limits.batches_in_flight:
            return
        if batcher.senders and batcher.count < limits.beside_items:
            wait_s = batcher.since_s + limits.beside_wait_s - self._env.now
            if wait_s > 0:
                if not batcher.due:
                    batcher.due = True
                    self._env.process(self._flush_in(sale, wait_s))
                return
        batcher.senders += 1
        self._env.process(self._send(sale))

    def _flush_in(self, sale: int, seconds: float) -> Steps:
        yield self._env.timeout(seconds)
        self._batchers[sale].due = False
        self._flush(sale)

    def _send(self, sale: int) -> Steps:
        """Batch after batch until the queue is empty."""
        batcher = self._batchers[sale]
        while batcher.count:
            batch, late = self._take(batcher)
            batcher.since_s = self._env.now
            self._answer([(cohort, LATE) for cohort in late])
            count = sum(cohort.count for cohort in batch)
            if not count:
                continue
            self.batches += 1
            self.batched += count
            yield self._server.work(self._reserve.batch_s / 2)
            granted = yield self._behind.reserve(sale, count)
            told = self._env.event()
            seconds = self._reserve.batch_s / 2 + self._reserve.item_s / 2 * count
            self._outbox.append((_decided(batch, granted), seconds, told))
            self._wake()
            yield told
        batcher.senders -= 1
        self._flush(sale)

    def _take(self, batcher: _Batcher) -> tuple[list[Cohort], list[Cohort]]:
        """Return the next batch, and those whose callers wait no longer."""
        batch: list[Cohort] = []
        late: list[Cohort] = []
        room = self._limits.batch_max
        while room and batcher.queue:
            cohort = batcher.queue[0]
            if self._env.now - cohort.sent_s > self._deadline_s:
                late.append(batcher.queue.popleft())
                batcher.count -= cohort.count
                continue
            part = cohort.split(min(room, cohort.count))
            if not cohort.count:
                batcher.queue.popleft()
            batch.append(part)
            batcher.count -= part.count
            room -= part.count
        return batch, late


def _decided(batch: list[Cohort], granted: int) -> list[tuple[Cohort, str]]:
    """Return the batch with its outcomes: the first of it get the units."""
    decided: list[tuple[Cohort, str]] = []
    for cohort in batch:
        got = min(granted, cohort.count)
        granted -= got
        if got:
            decided.append((cohort.split(got), RESERVED))
        if cohort.count:
            decided.append((cohort, SOLD_OUT))
    return decided
