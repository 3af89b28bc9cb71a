"""What the client does next, decided without any I/O."""

import random
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from seckill.client import flows
from seckill.client.errors import (
    DETAILS_KEY,
    PUSHBACK_KEY,
    CallFailed,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    StateConflict,
    TryLater,
    call_failed,
)
from seckill.client.results import Outcome, Purchase, outcome_of, settled, visible
from seckill.client.retry import Deadline, RetryPolicy
from seckill.errors import REQUEST_CHANGES
from seckill.v1 import gateway_pb2, inventory_pb2, order_pb2

CALL_S = 0.1
Reply = object | CallFailed


class Clock:
    """A clock that goes only as far as the flow's own steps take."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Driver:
    """Runs a flow against scripted replies; each call takes CALL_S.

    Attributes:
        asked: the calls, in order.
        pauses: seconds of each pause.
    """

    def __init__(self, *replies: Reply, timeout_s: float = 10.0, **policy: Any) -> None:
        self.clock = Clock()
        self.deadline = Deadline(RetryPolicy(**policy), timeout_s, self.clock, random.Random(1))
        self._replies = list(replies)
        self.asked: list[flows.Ask] = []
        self.watches: list[flows.Watch] = []
        self.pauses: list[float] = []

    def run(self, flow: flows.Flow[Any]) -> Any:
        """Drive the flow to its end."""
        reply: Reply = None
        while True:
            try:
                step = flows.resume(flow, reply)
            except StopIteration as done:
                assert not self._replies, "the flow ended before the script"
                return done.value
            match step:
                case flows.Pause():
                    self.pauses.append(step.seconds)
                    self.clock.now_s += step.seconds
                    reply = None
                case flows.Ask():
                    # A copy, as the wire has it: the flow goes on with its own.
                    sent = type(step.request).FromString(step.request.SerializeToString())
                    self.asked.append(replace(step, request=sent))
                    reply = self._next()
                case flows.Watch():
                    self.watches.append(step)
                    reply = self._next()

    def _next(self) -> Reply:
        self.clock.now_s += CALL_S
        return self._replies.pop(0)

    def methods(self) -> list[str]:
        """Names of the calls."""
        return [step.method for step in self.asked]


def token(text: str = "t1") -> gateway_pb2.IssuePurchaseTokenResponse:
    """A purchase token."""
    return gateway_pb2.IssuePurchaseTokenResponse(purchase_token=text)


def answer(outcome: str = "RESERVED", order_no: str = "") -> gateway_pb2.PurchaseResponse:
    """The answer to a purchase."""
    number = inventory_pb2.PurchaseOutcome.Value(f"PURCHASE_OUTCOME_{outcome}")
    return gateway_pb2.PurchaseResponse(outcome=number, order_no=order_no)


def order(state: str = "PENDING") -> gateway_pb2.GatewayServiceGetOrderResponse:
    """An order, as GetOrder gives it."""
    number = order_pb2.OrderState.Value(f"ORDER_STATE_{state}")
    return gateway_pb2.GatewayServiceGetOrderResponse(
        order=order_pb2.Order(order_no="A", state=number)
    )


def failed(
    code: str, reason: str = "", *, retry_s: float | None = None, pushback: str | None = None
) -> CallFailed:
    """What a status of the mesh (or, without a reason, of gRPC itself) becomes."""
    status = status_pb2.Status()
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="seckill"))
    if retry_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailing: dict[str, str | bytes] = {DETAILS_KEY: status.SerializeToString()}
    if pushback is not None:
        trailing[PUSHBACK_KEY] = pushback
    return call_failed(grpc.StatusCode[code], "said so", trailing)


def buy(driver: Driver) -> Purchase:
    """Drive a purchase."""
    bought: Purchase = driver.run(flows.buy(driver.deadline, "phone", 2, "r1"))
    return bought


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ("RESERVED", Outcome.RESERVED),
        ("SOLD_OUT", Outcome.SOLD_OUT),
        ("ALREADY_PURCHASED", Outcome.ALREADY_PURCHASED),
        ("NOT_STARTED", Outcome.NOT_STARTED),
        ("ENDED", Outcome.ENDED),
        ("PAUSED", Outcome.PAUSED),
        ("LIMIT_EXCEEDED", Outcome.LIMIT_EXCEEDED),
    ],
)
def test_each_outcome_is_a_value(told: str, outcome: Outcome) -> None:
    """A token, a purchase, an answer."""
    driver = Driver(token(), answer(told, "A"))
    bought = buy(driver)
    assert bought.outcome is outcome
    assert (bought.order_no, bought.request_id, bought.quantity) == ("A", "r1", 2)
    assert driver.methods() == ["IssuePurchaseToken", "Purchase"]


def test_every_outcome_of_the_contract_has_a_name_here() -> None:
    """A new outcome that the gateway answers is a new member, not OTHER."""
    answered = set(inventory_pb2.PurchaseOutcome.values()) - {0, *REQUEST_CHANGES}
    named = {outcome_of(number) for number in answered}
    assert Outcome.OTHER not in named
    assert outcome_of(999) is Outcome.OTHER


@pytest.mark.parametrize("reason", ["SOLD_OUT", "ENDED", "PAUSED", "NOT_STARTED"])
def test_a_refusal_by_status_is_the_same_value(reason: str) -> None:
    """As the edge says it to purchases that name their sku in metadata."""
    assert buy(Driver(token(), failed("FAILED_PRECONDITION", reason))).outcome.name == reason


def test_a_lost_answer_is_asked_for_again_under_the_same_request_id() -> None:
    """With the same token."""
    driver = Driver(token(), failed("UNAVAILABLE"), failed("DEADLINE_EXCEEDED"), answer())
    assert buy(driver).reserved
    sent = [step.request for step in driver.asked[1:]]
    assert len(sent) == 3
    assert all(request == sent[0] for request in sent)


def test_an_expired_token_is_renewed_and_the_attempt_stays_the_same() -> None:
    """At once the first time; with a pause if the next one has expired, too."""
    expired = failed("PERMISSION_DENIED", "PURCHASE_TOKEN_EXPIRED")
    driver = Driver(token("t1"), expired, token("t2"), expired, token("t3"), answer())
    assert buy(driver).reserved
    purchases = [
        s.request for s in driver.asked if isinstance(s.request, gateway_pb2.PurchaseRequest)
    ]
    assert [request.purchase_token for request in purchases] == ["t1", "t2", "t3"]
    assert {request.request_id for request in purchases} == {"r1"}
    assert len(driver.pauses) == 1


def test_a_token_of_a_key_that_is_gone_is_renewed_once() -> None:
    """Then the refusal is raised."""
    invalid = failed("PERMISSION_DENIED", "PURCHASE_TOKEN_INVALID")
    with pytest.raises(NotAllowed):
        buy(Driver(token(), invalid, token(), invalid))


def test_the_pause_is_what_the_reply_asks_for_and_some_jitter() -> None:
    """RetryInfo, and the pushback before it."""
    driver = Driver(
        token(),
        failed("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_s=1.5),
        failed("UNAVAILABLE", pushback="700"),
        answer(),
    )
    buy(driver)
    assert 1.5 <= driver.pauses[0] <= 1.5 * 1.25
    assert 0.7 <= driver.pauses[1] <= 0.7 * 1.25


@pytest.mark.parametrize("pushback", ["-1", "soon"])
def test_a_server_that_forbids_a_repetition_is_obeyed(pushback: str) -> None:
    """A negative pushback, or one that cannot be read (gRFC A6)."""
    with pytest.raises(OutcomeUnknown):
        buy(Driver(token(), failed("UNAVAILABLE", pushback=pushback)))


def test_pauses_grow_up_to_their_bound() -> None:
    """Without a word from the server they double."""
    driver = Driver(
        token(), *[failed("UNAVAILABLE")] * 6, answer(), pause_min_s=0.1, pause_max_s=0.4, jitter=0
    )
    buy(driver)
    assert driver.pauses == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4, 0.4])


def test_a_failure_before_anything_was_sent_says_that_nothing_was_bought() -> None:
    """No token, no purchase."""
    driver = Driver(*[failed("UNAVAILABLE")] * 3, attempts_max=3)
    with pytest.raises(TryLater) as raised:
        buy(driver)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert driver.methods() == ["IssuePurchaseToken"] * 3


def test_a_purchase_without_an_answer_stays_unknown_whatever_follows() -> None:
    """Also if the repetition is refused for another reason."""
    lost = failed("UNAVAILABLE", "OUTCOME_UNKNOWN", retry_s=0.5)
    driver = Driver(token(), lost, failed("FAILED_PRECONDITION", "KILL_SWITCH"))
    with pytest.raises(OutcomeUnknown) as raised:
        buy(driver)
    assert raised.value.request_id == "r1"
    assert raised.value.reason == "KILL_SWITCH"
    assert isinstance(raised.value.__cause__, StateConflict)


@pytest.mark.parametrize("reason", ["RATE_LIMITED", "OVERLOADED"])
def test_a_refusal_by_the_mesh_is_no_lost_answer(reason: str) -> None:
    """Nothing was bought, and the error says when to come back."""
    refusal = failed("RESOURCE_EXHAUSTED", reason, retry_s=60)
    with pytest.raises(TryLater) as raised:
        buy(Driver(token(), refusal))
    assert not isinstance(raised.value, OutcomeUnknown)
    assert raised.value.retry_after_s == 60


def test_no_call_outlasts_the_deadline() -> None:
    """Each gets the time that is left, at most that of one attempt."""
    driver = Driver(
        token(), failed("UNAVAILABLE", retry_s=0.5), answer(), timeout_s=3, attempt_timeout_s=2.5
    )
    buy(driver)
    assert driver.asked[0].timeout_s == pytest.approx(2.5)
    assert driver.asked[2].timeout_s == pytest.approx(3 - 2 * CALL_S - driver.pauses[0])


def test_an_order_on_its_way_is_waited_for_and_one_that_never_was_is_not() -> None:
    """NOT_FOUND with RetryInfo is a young number."""
    driver = Driver(failed("NOT_FOUND", "ORDER_NOT_FOUND", retry_s=0.5), order())
    assert driver.run(flows.get_order(driver.deadline, "A")).order_no == "A"
    unknown = Driver(failed("NOT_FOUND", "ORDER_NOT_FOUND"))
    with pytest.raises(NotFound):
        unknown.run(flows.get_order(unknown.deadline, "A"))


def test_waiting_watches_and_polls_if_the_watch_ends() -> None:
    """A watch that breaks, one that ends, one that is not served: the next poll goes on."""
    driver = Driver(
        order(),
        failed("UNAVAILABLE"),
        order(),
        None,
        order(),
        failed("UNIMPLEMENTED"),
        order("PAID"),
    )
    found = driver.run(flows.wait(driver.deadline, "A", settled))
    assert found.state == order_pb2.ORDER_STATE_PAID
    assert len(driver.watches) == len(driver.pauses) == 3


def test_waiting_ends_with_what_can_change_no_more() -> None:
    """A cancelled order will never be paid."""
    driver = Driver(order("CANCELLED"))
    found = driver.run(flows.wait(driver.deadline, "A", lambda o: o.state == 2))
    assert found.state == order_pb2.ORDER_STATE_CANCELLED
    seen = Driver(order())
    assert seen.run(flows.wait(seen.deadline, "A", visible)).order_no == "A"


def test_waiting_too_long_is_an_error_that_says_where_the_order_stands() -> None:
    """At the deadline."""
    driver = Driver(*[order(), None] * 3, timeout_s=1.5)
    with pytest.raises(TryLater, match="still pending"):
        driver.run(flows.wait(driver.deadline, "A", settled))


def test_sales_are_read_to_the_last_page() -> None:
    """By the token of each page."""
    page = gateway_pb2.GatewayServiceListSalesResponse
    first, second = page(next_page_token="p2"), page()
    first.sales.add().terms.sku = "a"
    second.sales.add().terms.sku = "b"
    driver = Driver(first, second)
    found = driver.run(flows.sales(driver.deadline))
    assert [sale.terms.sku for sale in found] == ["a", "b"]
    tokens = [
        s.request.page_token
        for s in driver.asked
        if isinstance(s.request, gateway_pb2.GatewayServiceListSalesRequest)
    ]
    assert tokens == ["", "p2"]


def test_details_that_cannot_be_read_are_no_second_failure() -> None:
    """A proxy may have written anything there."""
    failure = call_failed(grpc.StatusCode.UNAVAILABLE, "no", {DETAILS_KEY: b"\xff\xff"})
    assert (failure.reason, failure.retry_after_s) == ("", None)
