"""What clients were told is held against the stores, and what a test did itself is excused."""

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from seckill.v1 import inventory_pb2
from tests.faults.checker import check
from tests.faults.example import LEDGER, LIVE_NO, PAID_NO, RIGHT, changed, told
from tests.faults.history import End, History


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


def ask_again(history: History) -> None:
    """Ann's request was answered, and then taken for another one."""
    attempt = history.invoke("ann", "a")
    attempt.answered(inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED, LIVE_NO)


def name_another(history: History) -> None:
    """Dan was told that Ann's order was his."""
    attempt = history.invoke("dan", "e")
    attempt.answered(inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED, LIVE_NO)


def sell_what_is_lost(history: History) -> None:
    """All these numbers were made while the sale was lost."""
    history.done.lost.append((0.0, 1e12))


def poison(history: History) -> None:
    """One message was poisoned, and where is it?"""
    history.done.poison = 1


def give_up(history: History) -> None:
    """Bob was told that his order is cancelled."""
    history.cancelled.add(PAID_NO)


def refund(history: History) -> None:
    """Bob was told that his payment comes back."""
    history.refunded[PAID_NO] = True


@pytest.mark.parametrize(
    ("spoil", "letter", "sentence"),
    [
        (refuse, "L", "ann was refused without effect"),
        (answer_twice, "U", "was answered with"),
        (promise_more, "L", "dan was told"),
        (ask_again, "U", "was reserved, and then already purchased"),
        (name_another, "L", "which is not his"),
        (sell_what_is_lost, "O", "was sold while the sale was lost"),
        (poison, "L", "1 of 1 poisoned messages are no dead letters"),
        (give_up, "L", "the confirmed cancellation"),
        (refund, "L", "the confirmed refund"),
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


def test_a_rejected_order_needs_a_reason() -> None:
    """It is legal where a test has wronged Redis, and a broken promise elsewhere."""
    history = told()
    facts = changed(2, status="rejected")
    history.done.rejecting = False
    history.cancelled.clear()
    assert any("nothing was wrong with Redis" in str(one) for one in check(facts, history))
    history.done.rejecting = True
    assert not any("nothing was wrong" in str(one) for one in check(facts, history))


def test_what_the_test_itself_took_away_is_excused() -> None:
    """An order that Redis was made to forget may be missing, and its buyer be told another one."""
    history = told()
    again = history.invoke("dan", "d")
    again.answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, "9" * 26)
    again = history.invoke("dan", "d")
    again.answered(inventory_pb2.PURCHASE_OUTCOME_RESERVED, "8" * 26)
    assert len(check(RIGHT, history)) == 3
    history.done.forgotten = {"9" * 26, "8" * 26}
    assert check(RIGHT, history) == ()


def test_units_written_off_are_accounted_for() -> None:
    """A refund that puts nothing back on sale keeps its units, its hold and its ledger row."""
    history = told()
    del history.paid[PAID_NO]
    history.refunded[PAID_NO] = False
    facts = replace(
        changed(1, status="refunded"),
        ledger=(*LEDGER, (PAID_NO, "written_off", 1)),
        events=(RIGHT.events or frozenset()) | {(PAID_NO, "refunded")},
        shown={**(RIGHT.shown or {}), PAID_NO: "refunded"},
    )
    assert check(facts, history) == ()


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
