"""The demo's verdict finds each kind of wrong."""

import dataclasses

import pytest

from seckill.client import CallFailed, Outcome, OutcomeUnknown
from seckill_cli.demo.buyer import Attempt
from seckill_cli.demo.scenario import Answer, Notes, answer_of
from seckill_cli.demo.verdict import StoreTotals, Verdict, judge

CLEAN = Verdict(oversold=0, lost=0, unaccounted=0)


def attempt(
    name: str,
    *,
    outcome: Outcome | None = None,
    order_no: str = "",
    failure: CallFailed | None = None,
    purchases: int = 1,
) -> Attempt:
    """One attempt of this buyer."""
    return Attempt(
        user_id=name,
        sku="phone",
        request_id=f"{name}-1",
        quantity=1,
        start_s=0,
        outcome=outcome,
        order_no=order_no,
        failure=failure,
        purchases=purchases,
    )


def notes(name: str, *attempts: Attempt, paid: bool = False) -> Notes:
    """A buyer with these notes."""
    return Notes(
        user_id=name, arrives_s=0, buys_twice=False, pays=paid, attempts=list(attempts), paid=paid
    )


GOOD_TOTALS = StoreTotals(
    remaining=1,
    backlog=0,
    live_holds=frozenset({"A"}),
    orders=(("A", "ann", "paid", 1), ("B", "bob", "cancelled", 1)),
    restored=1,
)
GOOD_NOTES = [
    notes("ann", attempt("ann", outcome=Outcome.RESERVED, order_no="A"), paid=True),
    notes("bob", attempt("bob", outcome=Outcome.RESERVED, order_no="B")),
    notes("cid", attempt("cid", outcome=Outcome.SOLD_OUT)),
]


def test_a_sale_that_adds_up_is_clean() -> None:
    """Two units: one paid, one back."""
    assert judge(GOOD_TOTALS, stock=2, notes=GOOD_NOTES) == CLEAN


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"orders": (("A", "ann", "paid", 3), ("B", "bob", "cancelled", 1))}, "oversold"),
        ({"orders": (("A", "ann", "paid", 1),)}, "lost"),
        ({"orders": (("A", "ann", "cancelled", 1), ("B", "bob", "paid", 1))}, "lost"),
        ({"remaining": 0}, "unaccounted"),
        ({"remaining": 2}, "unaccounted"),
        ({"remaining": -2}, "oversold"),
        ({"orders": (*GOOD_TOTALS.orders, ("C", "cid", "cancelled", 1))}, "unaccounted"),
    ],
)
def test_totals_that_do_not_add_up_are_found(change: dict[str, object], wrong: str) -> None:
    """Too much sold, a promised order gone, a unit too few or too many, an order without buyer."""
    totals = dataclasses.replace(GOOD_TOTALS, **change)  # type: ignore[arg-type]
    assert getattr(judge(totals, stock=2, notes=GOOD_NOTES), wrong) > 0


def test_an_order_of_a_buyer_without_an_answer_is_accounted_for() -> None:
    """They know that they do not know; one who was refused has no order."""
    orders = (*GOOD_TOTALS.orders, ("D", "dan", "cancelled", 1))
    totals = dataclasses.replace(GOOD_TOTALS, orders=orders)
    lost = notes("dan", attempt("dan", failure=OutcomeUnknown("no answer")))
    assert judge(totals, stock=2, notes=[*GOOD_NOTES, lost]) == CLEAN
    refused = notes("dan", attempt("dan", failure=CallFailed("no")))
    assert judge(totals, stock=2, notes=[*GOOD_NOTES, refused]).unaccounted == 1


def test_refused_and_unanswered_are_told_apart() -> None:
    """Also if the attempt was cancelled: before or after the purchase was sent."""
    assert answer_of(attempt("a", failure=CallFailed("no"))) is Answer.REFUSED
    assert answer_of(attempt("a", failure=OutcomeUnknown("lost"))) is Answer.UNANSWERED
    assert answer_of(attempt("a", purchases=0)) is Answer.REFUSED
    assert answer_of(attempt("a", purchases=1)) is Answer.UNANSWERED
