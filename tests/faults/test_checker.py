"""The checker finds each kind of wrong fact: a checker that cannot fail proves nothing."""

from dataclasses import replace

import pytest

from tests.kits.faults.checker import check
from tests.kits.faults.example import (
    ENDED_NO,
    LEDGER,
    LIVE_NO,
    ORDERS,
    PAID_NO,
    RIGHT,
    attempt_of,
    changed,
    history_of_three,
)
from tests.kits.faults.facts import Facts, Hold


def test_facts_that_fit_have_no_violation() -> None:
    """The checker accepts a pending, a paid and a cancelled order with all units in place."""
    assert check(RIGHT, history_of_three()) == ()


def test_an_unknown_attempt_may_have_taken_effect_or_not() -> None:
    """The checker accepts an unknown attempt with an order, and one without."""
    history = history_of_three()
    history.attempts[0] = attempt_of(ORDERS[0].user_id, ORDERS[0].request_id)
    history.note(attempt_of("eve", "e"))
    assert history.attempts[0].unknown
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
    "an order without an attempt": ("L", "no attempt led to", changed(0, request_id="z")),
    "a confirmed payment that is not there": (
        "L",
        "payment p of",
        changed(1, payment_id="other"),
    ),
    "a late payment that is not on record": (
        "L",
        "late payment late",
        replace(RIGHT, owed_payments=frozenset()),
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
    "a ledger row without an order": (
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
    "an order that should have expired": (
        "V",
        "long after its time",
        replace(RIGHT, overdue=frozenset({LIVE_NO})),
    ),
    "an order shown as it is not": (
        "V",
        "is paid, and its buyer is shown that it is pending",
        replace(RIGHT, shown={**(RIGHT.shown or {}), PAID_NO: "pending"}),
    ),
    "an event that was never sent": (
        "L",
        "no event says",
        replace(RIGHT, events=(RIGHT.events or frozenset()) - {(PAID_NO, "paid")}),
    ),
    "an event of nothing": (
        "L",
        "was refunded, and it was not",
        replace(RIGHT, events=(RIGHT.events or frozenset()) | {(PAID_NO, "refunded")}),
    ),
    "a dead letter of no poison": ("L", "1 dead letters", replace(RIGHT, dead_letters=1)),
    "a payment of a wrong amount": (
        "L",
        "of a wrong amount",
        changed(1, payment_id="wrong amount"),
    ),
}


@pytest.mark.parametrize("wrong", WRONG_FACTS)
def test_a_wrong_fact_is_told_in_a_sentence(wrong: str) -> None:
    """The checker tells each wrong fact under the letter of its invariant."""
    letter, sentence, facts = WRONG_FACTS[wrong]
    found = check(facts, history_of_three())
    assert any(one.invariant == letter and sentence in one.sentence for one in found), found
