"""The checker finds each kind of wrong fact: a checker that cannot fail proves nothing."""

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from seckill.v1 import inventory_pb2
from tests.faults.checker import Facts, Hold, OrderRow, check
from tests.faults.history import End, History

LIVE_NO, PAID_NO, ENDED_NO = "1" * 26, "2" * 26, "3" * 26
ORDERS = (
    OrderRow(order_no=LIVE_NO, user_id="ann", request_id="a", status="pending"),
    OrderRow(order_no=PAID_NO, user_id="bob", request_id="b", status="paid", payment_id="p"),
    OrderRow(order_no=ENDED_NO, user_id="cid", request_id="c", status="cancelled", restored=True),
)
LEDGER = (
    ("", "loaded", 3),
    (LIVE_NO, "reserved", 1),
    (PAID_NO, "reserved", 1),
    (ENDED_NO, "reserved", 1),
    (PAID_NO, "paid", 1),
    (ENDED_NO, "cancelled", 1),
    (ENDED_NO, "restored", 1),
)
RIGHT = Facts(
    total=3,
    sold=2,
    orders=ORDERS,
    ledger=LEDGER,
    late_payments=frozenset({"late"}),
    remaining=1,
    holds={
        "ann": Hold(order_no=LIVE_NO),
        "bob": Hold(order_no=PAID_NO),
        "cid": Hold(order_no=ENDED_NO, live=False),
    },
    backlog=0,
    unacknowledged=0,
    delayed=frozenset({LIVE_NO}),
    lag=0,
    dead_letters=0,
)


def told() -> History:
    """What the three buyers saw, and one more who was sent away."""
    history = History()
    for row in ORDERS:
        attempt = history.invoke(row.user_id, row.request_id)
        attempt.answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, row.order_no)
    history.invoke("dan", "d").answered(inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT, "")
    history.paid[PAID_NO] = "p"
    history.too_late["late"] = ENDED_NO
    return history


def changed(number: int, **changes: object) -> Facts:
    """The right facts, except for one order."""
    rows = list(ORDERS)
    rows[number] = replace(rows[number], **changes)  # type: ignore[arg-type]
    return replace(RIGHT, orders=tuple(rows))


def test_facts_that_fit_have_no_violation() -> None:
    """A pending, a paid and a cancelled order, all units in their places."""
    assert check(RIGHT, told()) == ()


def test_an_unknown_attempt_may_have_taken_effect_or_not() -> None:
    """Either is legal, and neither is a violation."""
    history = told()
    history.attempts[0].end = End.UNKNOWN
    history.invoke("eve", "e").end = End.UNKNOWN
    assert check(RIGHT, history) == ()


WRONG_FACTS: dict[str, tuple[str, str, Facts]] = {
    "more live units than stock": ("O", "only 1 were for sale", replace(RIGHT, total=1)),
    "a count that is not that of the rows": ("O", "sales.sold says 1", replace(RIGHT, sold=1)),
    "a moment at which too much was live": (
        "O",
        f"4 of 3 units were live after reserved of {LIVE_NO[:-1]}9",
        replace(
            RIGHT,
            ledger=(
                *LEDGER[:4],
                (f"{LIVE_NO[:-1]}9", "reserved", 1),
                (f"{LIVE_NO[:-1]}9", "cancelled", 1),
                *LEDGER[4:],
            ),
        ),
    ),
    "two live orders of a buyer": ("U", "ann has 2 live orders", changed(1, user_id="ann")),
    "a promised order that no row has": (
        "L",
        "which no row has",
        replace(RIGHT, orders=ORDERS[1:], ledger=(LEDGER[0], *LEDGER[2:])),
    ),
    "an order with another quantity": ("L", "not what ann was promised", changed(0, quantity=2)),
    "an order nobody asked for": ("L", "nobody asked for", changed(0, request_id="z")),
    "a confirmed payment that is not there": (
        "L",
        "payment p of",
        changed(1, payment_id="other"),
    ),
    "a late payment that is not on record": (
        "L",
        "late payment late",
        replace(RIGHT, late_payments=frozenset()),
    ),
    "a late payment that paid": (
        "L",
        "refused as too late and paid",
        changed(1, payment_id="late"),
    ),
    "a lost stock key": ("C", "stock key is missing", replace(RIGHT, remaining=None)),
    "a unit too many": ("C", "1 units too many", replace(RIGHT, remaining=2)),
    "a unit too few": ("C", "1 units too few", replace(RIGHT, remaining=0)),
    "an order without a hold": (
        "C",
        "has no hold",
        replace(RIGHT, holds={"bob": Hold(order_no=PAID_NO)}),
    ),
    "a hold without an order": (
        "C",
        "has no live order",
        replace(RIGHT, holds={**RIGHT.holds, "dan": Hold(order_no="9" * 26)}),
    ),
    "a hold of other units": (
        "C",
        "holds 2 units and has ordered 1",
        replace(RIGHT, holds={**RIGHT.holds, "ann": Hold(order_no=LIVE_NO, quantity=2)}),
    ),
    "units that never came back": (
        "C",
        "never came back",
        changed(2, restored=False),
    ),
    "a ledger without a movement": ("C", "the ledger has", replace(RIGHT, ledger=LEDGER[:-1])),
    "a ledger with a movement of nobody": (
        "C",
        "which no row has",
        replace(RIGHT, ledger=(*LEDGER, ("9" * 26, "rejected", 1))),
    ),
    "entries in the outbox": ("V", "not in Kafka yet", replace(RIGHT, backlog=1)),
    "entries read and forgotten": ("V", "never acknowledged", replace(RIGHT, unacknowledged=1)),
    "messages not consumed": ("V", "not consumed", replace(RIGHT, lag=1)),
    "an order that would never expire": (
        "V",
        "not in the delay set",
        replace(RIGHT, delayed=frozenset()),
    ),
    "an ended order that is looked at for ever": (
        "V",
        "still in the delay set",
        replace(RIGHT, delayed=frozenset({LIVE_NO, ENDED_NO})),
    ),
}


@pytest.mark.parametrize("wrong", WRONG_FACTS)
def test_a_wrong_fact_is_told_in_a_sentence(wrong: str) -> None:
    """Each of them, under its letter."""
    letter, sentence, facts = WRONG_FACTS[wrong]
    found = check(facts, told())
    assert any(one.invariant == letter and sentence in one.sentence for one in found), found


def refuse(history: History) -> None:
    """Ann's attempt failed without effect, and still there is an order."""
    history.attempts[0].end = End.FAILED


def answer_twice(history: History) -> None:
    """One request of Ann's was answered with two numbers."""
    attempt = history.invoke("ann", "a")
    attempt.answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, PAID_NO)


def promise_more(history: History) -> None:
    """Dan was told a number that nobody knows."""
    history.attempts[3].answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, "9" * 26)


@pytest.mark.parametrize(
    ("spoil", "letter", "sentence"),
    [
        (refuse, "L", "ann was refused without effect"),
        (answer_twice, "U", "was answered with"),
        (promise_more, "L", "dan was told"),
    ],
)
def test_what_a_client_saw_must_fit_the_stores(
    spoil: Callable[[History], None], letter: str, sentence: str
) -> None:
    """The history is evidence as good as the rows."""
    history = told()
    spoil(history)
    found = check(RIGHT, history)
    assert any(one.invariant == letter and sentence in one.sentence for one in found), found


def test_only_a_promise_of_no_effect_counts_as_failed() -> None:
    """A broken connection says nothing about what was done; a refusal with its reason does."""
    history = History()
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
    )
    attempt = history.invoke("ann", "a")
    attempt.refused(lost)
    assert attempt.end is End.UNKNOWN
    assert history.codes == {grpc.StatusCode.UNAVAILABLE}
