"""The demo's verdict finds each kind of wrong."""

import dataclasses

import pytest

from seckill.demo.scenario import Answer, Buyer
from seckill.demo.verdict import Books, Verdict, judge

CLEAN = Verdict(oversold=0, lost=0, unaccounted=0)


def buyer(name: str, *, answer: Answer, order_no: str = "", paid: bool = False) -> Buyer:
    """A buyer with these notes."""
    return Buyer(
        user_id=name,
        identity=(),
        arrives_s=0,
        presses_twice=False,
        pays=paid,
        answer=answer,
        order_no=order_no,
        paid=paid,
    )


GOOD_BOOKS = Books(
    remaining=1,
    backlog=0,
    live_holds=frozenset({"A"}),
    orders=(("A", "ann", "paid", 1), ("B", "bob", "cancelled", 1)),
    restored=1,
)
GOOD_NOTES = [
    buyer("ann", answer=Answer.RESERVED, order_no="A", paid=True),
    buyer("bob", answer=Answer.RESERVED, order_no="B"),
    buyer("cid", answer=Answer.SOLD_OUT),
]


def test_a_sale_that_adds_up_is_clean() -> None:
    """Two units: one paid, one back."""
    assert judge(GOOD_BOOKS, stock=2, buyers=GOOD_NOTES) == CLEAN


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"orders": (("A", "ann", "paid", 3), ("B", "bob", "cancelled", 1))}, "oversold"),
        ({"orders": (("A", "ann", "paid", 1),)}, "lost"),
        ({"orders": (("A", "ann", "cancelled", 1), ("B", "bob", "paid", 1))}, "lost"),
        ({"remaining": 0}, "unaccounted"),
        ({"remaining": 2}, "unaccounted"),
        ({"remaining": -2}, "oversold"),
        ({"orders": (*GOOD_BOOKS.orders, ("C", "cid", "cancelled", 1))}, "unaccounted"),
    ],
)
def test_books_that_do_not_add_up_are_found(change: dict[str, object], wrong: str) -> None:
    """Too much sold, a promised order gone, a unit missing or too many, an order nobody knows."""
    books = dataclasses.replace(GOOD_BOOKS, **change)  # type: ignore[arg-type]
    assert getattr(judge(books, stock=2, buyers=GOOD_NOTES), wrong) > 0


def test_a_buyer_without_an_answer_is_found() -> None:
    """Nobody may be left hanging."""
    notes = [*GOOD_NOTES, buyer("dan", answer=Answer.FAILED), buyer("eve", answer=Answer.NONE)]
    assert judge(GOOD_BOOKS, stock=2, buyers=notes).unaccounted == 2
