"""One human's visit, told without a load generator: who calls, who sleeps and who counts is given.

Page → wait for the sale to begin → token → press (some twice) → poll until the order is there →
think → pay, or leave. What can be repeated is repeated with the same request id, as the contract
says, as long as a human is patient.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, NamedTuple, Protocol

from bench.flow.paths import PAGE, PAY, POLL, PRESS, TOKEN, Path
from bench.flow.tally import Ending, Span, Tally

# How long a human repeats a step that was turned away, and waits for an order to appear.
PATIENCE_S = 15.0
# How long a human waits on the page for a sale to begin.
WAIT_MAX_S = 600.0
# How long a whole visit takes at most, from the sale's beginning on: page, token, press, press
# again, poll and pay, each with all patience.
VISIT_MAX_S = 8 * PATIENCE_S
POLL_S = 0.25
# Between order and payment.
THINK_S = (0.5, 2.0)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# No answer at all; too many; a stage or a store is away; too slow.
WORTH_REPEATING = frozenset({0, 429, 503, 504})
NOT_FOUND = 404
FORBIDDEN = 403
BAD_REQUEST = 400
OK = 200
RESERVED = "RESERVED"
TOKEN_EXPIRED = "PURCHASE_TOKEN_EXPIRED"  # noqa: S105 - a reason's name
TOO_LATE = frozenset({"PAYMENT_TOO_LATE", "ORDER_STATE"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP; 0 where nothing came.
        body: the JSON object; empty where there was none.
    """

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """ErrorInfo.reason of an error; empty where there is none."""
        return str(self._detail("ErrorInfo").get("reason", ""))

    @property
    def retry_after_s(self) -> float:
        """RetryInfo.retry_delay of an error; 0 where there is none."""
        return float(str(self._detail("RetryInfo").get("retryDelay", "0s")).removesuffix("s"))

    def _detail(self, kind: str) -> Mapping[str, Any]:
        for detail in self.body.get("details", ()):
            if str(detail.get("@type", "")).endswith(f"google.rpc.{kind}"):
                return dict(detail)
        return {}


class Shop(Protocol):
    """Calls the edge as one human."""

    def call(
        self, path: Path, name: str, body: Mapping[str, Any] | None, *, fine: Collection[int]
    ) -> Answer:
        """One request.

        Args:
            path: what is called.
            name: the sku or order number in the path.
            body: sent as JSON; None sends none.
            fine: statuses that are an expected answer here.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What buyers are like.

    Attributes:
        within_s: all press within this time of the sale's beginning.
        pay_ratio: of those with an order, how many pay.
        twice_ratio: of all, how many press twice with the same request id.
    """

    within_s: float = 1.5
    pay_ratio: float = 0.7
    twice_ratio: float = 0.1


class _Told(NamedTuple):
    outcome: str
    order_no: str


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
        """`clock`: Unix time, also what the sale's beginning is compared with."""
        self._shop = shop
        self._sku = sku
        self._habits = habits
        self._tally = tally
        self._random = random
        self._sleep = sleep
        self._clock = clock
        self._request_id = str(uuid.uuid4())
        self._pressed_s = 0.0

    def run(self) -> Ending:
        """Visit, and count how it ended."""
        self._tally.begun += 1
        try:
            ending = self._story()
        except _Over as over:
            ending = over.ending
        except (KeyError, TypeError, ValueError):
            # An answer without what the contract promises.
            ending = Ending.FAILED
        self._tally.endings[ending] += 1
        return ending

    def _story(self) -> Ending:
        self._wait_for_the_beginning(self._patiently(PAGE, self._sku))
        self._pressed_s = self._clock()
        self._tally.press(self._pressed_s)
        order_no = self._press_once_or_twice()
        order = self._see_order(order_no)
        self._sleep(self._random.uniform(*THINK_S))
        if self._random.random() >= self._habits.pay_ratio:
            return Ending.UNPAID
        return self._pay(order)

    def _wait_for_the_beginning(self, page: Answer) -> None:
        begins = page.body["sale"]["terms"].get("startTime")
        if not begins:
            return
        ahead_s = datetime.fromisoformat(begins).timestamp() - self._clock()
        if ahead_s > WAIT_MAX_S:
            raise _Over(Ending.NOT_STARTED)
        if ahead_s > 0:
            self._sleep(ahead_s + self._random.uniform(0, self._habits.within_s))

    def _press_once_or_twice(self) -> str:
        """The order's number; ends the visit where nothing was bought."""
        told = self._press()
        self._tally.took(Span.ANSWER, self._clock() - self._pressed_s)
        if self._random.random() < self._habits.twice_ratio:
            again = self._press()
            # Who was refused may win the second time: a unit may have come back.
            if told.outcome == RESERVED and again != told:
                self._tally.broken["same request id, other answer"] += 1
            told = again
        if told.outcome != RESERVED:
            raise _Over(Ending.__members__.get(told.outcome, Ending.FAILED))
        return told.order_no

    def _press(self) -> _Told:
        """One press, with a token of its own."""
        until_s = self._clock() + PATIENCE_S
        while True:
            token = self._patiently(TOKEN, self._sku, {}).body["purchaseToken"]
            body = {"quantity": 1, "purchaseToken": token, "requestId": self._request_id}
            answer = self._patiently(PRESS, self._sku, body, fine=(FORBIDDEN,))
            expired = answer.status == FORBIDDEN
            # Only a token that expired while we were turned away is nobody's fault.
            if expired and answer.reason != TOKEN_EXPIRED:
                raise _Over(Ending.FAILED)
            outcome = str(answer.body.get("outcome", "")).removeprefix("PURCHASE_OUTCOME_")
            # Our clock may be ahead of the shop's.
            if not expired and outcome != "NOT_STARTED":
                return _Told(outcome, str(answer.body["orderNo"]))
            if self._clock() > until_s:
                raise _Over(Ending.FAILED if expired else Ending.NOT_STARTED)
            self._sleep(POLL_S)

    def _see_order(self, order_no: str) -> Mapping[str, Any]:
        until_s = self._clock() + PATIENCE_S
        while True:
            answer = self._patiently(POLL, order_no, fine=(NOT_FOUND,))
            if answer.status == OK:
                break
            if self._clock() > until_s:
                raise _Over(Ending.UNSEEN)
            self._sleep(POLL_S)
        self._tally.took(Span.VISIBLE, self._clock() - self._pressed_s)
        order: Mapping[str, Any] = answer.body["order"]
        if order["state"] == "ORDER_STATE_REJECTED":
            raise _Over(Ending.REJECTED)
        return order

    def _pay(self, order: Mapping[str, Any]) -> Ending:
        body = {"paymentId": f"pay-{self._request_id}", "amount": order["amount"]}
        answer = self._patiently(PAY, str(order["orderNo"]), body, fine=(BAD_REQUEST,))
        if answer.status == BAD_REQUEST:
            return Ending.CANCELLED if answer.reason in TOO_LATE else Ending.FAILED
        if answer.body["order"]["state"] != "ORDER_STATE_PAID":
            return Ending.FAILED
        self._tally.took(Span.PAID, self._clock() - self._pressed_s)
        return Ending.PAID

    def _patiently(
        self,
        path: Path,
        name: str,
        body: Mapping[str, Any] | None = None,
        *,
        fine: Collection[int] = (),
    ) -> Answer:
        """The first answer that says something; ends the visit where there is none."""
        until_s = self._clock() + PATIENCE_S
        pause_s = FIRST_PAUSE_S
        while True:
            answer = self._shop.call(path, name, body, fine=fine)
            if answer.status == OK or answer.status in fine:
                return answer
            if answer.status not in WORTH_REPEATING:
                raise _Over(Ending.FAILED)
            if self._clock() > until_s:
                raise _Over(Ending.TURNED_AWAY)
            self._sleep(max(answer.retry_after_s, pause_s * self._random.uniform(0.5, 1.5)))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
