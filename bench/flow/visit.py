"""One human's visit, told without a load generator: who calls, who sleeps and who counts is given.

Page → wait for the start of the sale → purchase (some twice) → poll until the order is there →
think → pay, or leave. Each call is a flow of seckill.client, which repeats what may be repeated
with the same request id, as long as a human is patient.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar, cast

from google.protobuf.message import Message

from bench.flow.tally import Ending, Span, Tally
from seckill.client import (
    CallFailed,
    NotFound,
    Outcome,
    Purchase,
    RetryPolicy,
    TryLater,
    challenges,
    flows,
)
from seckill.client.retry import Deadline
from seckill.client.transport import new_request_id
from seckill.v1 import order_pb2, sale_pb2

# How long a human repeats a step that was turned away, and waits for an order to appear.
PATIENCE_S = 15.0
# How long a human waits on the page for a sale to start.
WAIT_MAX_S = 600.0
# How long a whole visit takes at most from the start of the sale on: page, purchase, purchase
# again, poll and pay, each with all patience.
VISIT_MAX_S = 8 * PATIENCE_S
POLL_S = 0.25
# Between order and payment.
THINK_S = (0.5, 2.0)
POLICY = RetryPolicy(attempt_timeout_s=PATIENCE_S, pause_min_s=0.1, pause_max_s=2.0, jitter=0.5)
TOO_LATE = frozenset({"PAYMENT_TOO_LATE", "ORDER_STATE"})

T = TypeVar("T")


class Shop(Protocol):
    """Makes calls as one human."""

    def perform(self, step: flows.Ask) -> Message:
        """Make one call. Raises CallFailed; ValueError if the answer breaks the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What buyers are like.

    Attributes:
        within_s: all buy within this time of the start of the sale.
        pay_ratio: of those with an order, how many pay.
        twice_ratio: of all, how many send their purchase twice, with the same request id.
    """

    within_s: float = 1.5
    pay_ratio: float = 0.7
    twice_ratio: float = 0.1


class _Over(Exception):
    """The visit has ended early."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


class Visit:
    """One human, one sale, at most one unit."""

    def __init__(
        self,
        shop: Shop,
        *,
        sku: str,
        habits: Habits,
        tally: Tally,
        random: Random,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: Unix time, which is also compared with the start of the sale."""
        self._shop = shop
        self._sku = sku
        self._habits = habits
        self._tally = tally
        self._random = random
        self._sleep = sleep
        self._clock = clock
        self._request_id = new_request_id()
        self._bought_s = 0.0

    def run(self) -> Ending:
        """Visit, and count how it ended."""
        self._tally.visits += 1
        try:
            ending = self._story()
        except _Over as over:
            ending = over.ending
        except TryLater:
            ending = Ending.TURNED_AWAY
        except (CallFailed, ValueError):
            ending = Ending.FAILED
        self._tally.endings[ending] += 1
        return ending

    def _story(self) -> Ending:
        self._wait_for_the_start(self._run(flows.sale(self._deadline(), self._sku)))
        self._bought_s = self._clock()
        self._tally.first_purchase(self._bought_s)
        order = self._see_order(self._buy_once_or_twice())
        self._sleep(self._random.uniform(*THINK_S))
        if self._random.random() >= self._habits.pay_ratio:
            return Ending.UNPAID
        return self._pay(order)

    def _wait_for_the_start(self, sale: sale_pb2.Sale) -> None:
        ahead_s = sale.terms.start_time.ToNanoseconds() / 1e9 - self._clock()
        if ahead_s > WAIT_MAX_S:
            raise _Over(Ending.NOT_STARTED)
        if ahead_s > 0:
            self._sleep(ahead_s + self._random.uniform(0, self._habits.within_s))

    def _buy_once_or_twice(self) -> str:
        """Return the order's number; end the visit if nothing was bought."""
        told = self._buy()
        self._tally.record(Span.ANSWER, self._clock() - self._bought_s)
        if self._random.random() < self._habits.twice_ratio:
            again = self._buy()
            # A buyer who was refused may win the second time: a unit may have come back.
            if told.reserved and again != told:
                self._tally.broken["same request id, other answer"] += 1
            told = again
        if not told.reserved:
            raise _Over(Ending.__members__.get(told.outcome.name, Ending.FAILED))
        return told.order_no

    def _buy(self) -> Purchase:
        until_s = self._clock() + PATIENCE_S
        while True:
            told = self._run(flows.buy(self._deadline(), self._sku, 1, self._request_id))
            # Our clock may be ahead of the shop's.
            if told.outcome is not Outcome.NOT_STARTED or self._clock() > until_s:
                return told
            self._sleep(POLL_S)

    def _see_order(self, order_no: str) -> order_pb2.Order:
        try:
            order = self._run(flows.get_order(self._deadline(), order_no))
        except NotFound:
            raise _Over(Ending.UNSEEN) from None
        self._tally.record(Span.VISIBLE, self._clock() - self._bought_s)
        if order.state == order_pb2.ORDER_STATE_REJECTED:
            raise _Over(Ending.REJECTED)
        return order

    def _pay(self, order: order_pb2.Order) -> Ending:
        payment_id = f"pay-{self._request_id}"
        try:
            paid = self._run(flows.pay(self._deadline(), order.order_no, payment_id, order.amount))
        except CallFailed as failure:
            if failure.reason in TOO_LATE:
                return Ending.CANCELLED
            raise
        if paid.state != order_pb2.ORDER_STATE_PAID:
            return Ending.FAILED
        self._tally.record(Span.PAID, self._clock() - self._bought_s)
        return Ending.PAID

    def _deadline(self) -> Deadline:
        return Deadline(POLICY, PATIENCE_S, self._clock, self._random)

    def _run(self, flow: flows.Flow[T]) -> T:
        """Drive a flow of the client to its end."""
        reply: object = None
        while True:
            try:
                step = flows.resume(flow, reply)
            except StopIteration as done:
                return cast("T", done.value)
            try:
                reply = self._perform(step)
            except CallFailed as failure:
                reply = failure

    def _perform(self, step: flows.Step) -> object:
        if isinstance(step, flows.Pause):
            return self._sleep(step.seconds)
        if isinstance(step, flows.Solve):
            return challenges.solve(step.challenge, solver=None, timeout_s=step.timeout_s)
        if isinstance(step, flows.Watch):
            raise TypeError("a visit polls, and watches nothing")
        return self._shop.perform(step)
