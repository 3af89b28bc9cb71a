"""The replay of the stock ledger: a right one passes, and each kind of wrong is found."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from order_svc.audit.ledger import LedgerWrong, Movement, OrderRow, Replay, Rule

START = datetime(2026, 11, 11, tzinfo=UTC)
A, B, C = "A" * 26, "B" * 26, "C" * 26

Story = Sequence[tuple[str, str | None, int]]


def rows(story: Story) -> list[Movement]:
    """The ledger that tells this story, one row a second."""
    return [
        Movement(number, kind, order_no, quantity, START + timedelta(seconds=number))
        for number, (kind, order_no, quantity) in enumerate(story, start=1)
    ]


def replay(movements: Sequence[Movement]) -> Replay:
    """Replay rows from the first; raises LedgerWrong at the first wrong one."""
    done = Replay()
    for movement in movements:
        done.take(movement)
    return done


def compare(done: Replay, orders: Sequence[OrderRow]) -> None:
    """Compare the end of a replay with all orders, as an audit does."""
    for order in orders:
        done.compare_order(order)
    done.compare_count(len(orders))


# Five units: A buys two and is refunded, B buys three and gives up, C is refused.
GOOD: Story = (
    ("loaded", None, 5),
    ("reserved", A, 2),
    ("reserved", B, 3),
    ("rejected", C, 1),
    ("paid", A, 2),
    ("cancelled", B, 3),
    ("restored", C, 1),
    ("restored", B, 3),
    ("refunded", A, 2),
)
GOOD_ORDERS = (
    OrderRow(A, "refunded", 2, returned=True, restored=False),
    OrderRow(B, "cancelled", 3, returned=True, restored=True),
    OrderRow(C, "rejected", 1, returned=True, restored=True),
)


def test_right_ledger_adds_up() -> None:
    """Peak, units out and units on their way are what the story says."""
    done = replay(rows(GOOD))
    compare(done, GOOD_ORDERS)
    done.compare_sale(total=5, sold=0)
    assert (done.loaded, done.out, done.peak.units) == (5, 0, 5)
    assert done.peak.movement is not None
    assert done.peak.movement.id == 3
    assert done.units()["returning"] == 2


def test_units_written_off_stay_out() -> None:
    """A refund without restocking leaves the unit sold for good."""
    story: Story = (("loaded", None, 1), ("reserved", A, 1), ("paid", A, 1), ("written_off", A, 1))
    done = replay(rows(story))
    compare(done, [OrderRow(A, "refunded", 1, returned=False, restored=False)])
    done.compare_sale(total=1, sold=1)


@pytest.mark.parametrize(
    ("story", "rule", "row"),
    [
        ([("reserved", A, 1)], Rule.LOADED_ONCE, 1),
        ([("loaded", None, 5), ("loaded", None, 5)], Rule.LOADED_ONCE, 2),
        ([("loaded", None, 5), ("reserved", A, 1), ("loaded", None, 1)], Rule.LOADED_ONCE, 3),
        ([("loaded", None, 5), ("reserved", None, 1)], Rule.LEGAL_PATH, 2),
        ([("loaded", None, 5), ("paid", A, 1)], Rule.LEGAL_PATH, 2),
        ([("loaded", None, 5), ("cancelled", A, 1)], Rule.LEGAL_PATH, 2),
        ([("loaded", None, 5), ("restored", A, 1)], Rule.LEGAL_PATH, 2),
        ([("loaded", None, 5), ("reserved", A, 1), ("reserved", A, 1)], Rule.LEGAL_PATH, 3),
        ([("loaded", None, 5), ("reserved", A, 1), ("restored", A, 1)], Rule.LEGAL_PATH, 3),
        ([("loaded", None, 5), ("reserved", A, 1), ("refunded", A, 1)], Rule.LEGAL_PATH, 3),
        ([("loaded", None, 5), ("rejected", A, 1), ("paid", A, 1)], Rule.LEGAL_PATH, 3),
        ([*GOOD[:6], ("paid", B, 3)], Rule.LEGAL_PATH, 7),
        ([*GOOD[:5], ("cancelled", A, 2)], Rule.LEGAL_PATH, 6),
        ([*GOOD, ("restored", B, 3)], Rule.LEGAL_PATH, 10),
        ([*GOOD[:5], ("written_off", A, 2), ("restored", A, 2)], Rule.LEGAL_PATH, 7),
        ([*GOOD[:4], ("paid", A, 1)], Rule.SAME_UNITS, 5),
        ([*GOOD[:5], ("cancelled", B, 4)], Rule.SAME_UNITS, 6),
        ([*GOOD[:7], ("restored", B, 2)], Rule.SAME_UNITS, 8),
        ([*GOOD[:3], ("reserved", C, 1)], Rule.NEVER_OVERSOLD, 4),
        ([("loaded", None, 2), ("reserved", A, 3)], Rule.NEVER_OVERSOLD, 2),
    ],
)
def test_wrong_row_is_found(story: Story, rule: Rule, row: int) -> None:
    """The first wrong row is named, with the rule that it breaks."""
    with pytest.raises(LedgerWrong) as caught:
        replay(rows(story))
    assert caught.value.rule is rule
    assert caught.value.movement is not None
    assert caught.value.movement.id == row


@pytest.mark.parametrize(
    "orders",
    [
        GOOD_ORDERS[:2],
        [*GOOD_ORDERS, OrderRow("D" * 26, "pending", 1, returned=False, restored=False)],
        [OrderRow(A, "paid", 2, returned=False, restored=False), *GOOD_ORDERS[1:]],
        [OrderRow(A, "refunded", 1, returned=True, restored=False), *GOOD_ORDERS[1:]],
        [OrderRow(A, "refunded", 2, returned=False, restored=False), *GOOD_ORDERS[1:]],
        [OrderRow(A, "refunded", 2, returned=True, restored=True), *GOOD_ORDERS[1:]],
    ],
)
def test_order_that_disagrees_is_found(orders: Sequence[OrderRow]) -> None:
    """Missing, unknown, in another state, of another size, or with units lost on the way."""
    with pytest.raises(LedgerWrong) as caught:
        compare(replay(rows(GOOD)), orders)
    assert caught.value.rule is Rule.ORDERS_AGREE


@pytest.mark.parametrize(("total", "sold"), [(6, 0), (5, 1)])
def test_sale_that_disagrees_is_found(total: int, sold: int) -> None:
    """A total raised behind the ledger's back, and a count of units sold that it does not give."""
    with pytest.raises(LedgerWrong) as caught:
        replay(rows(GOOD)).compare_sale(total=total, sold=sold)
    assert caught.value.rule is Rule.SALE_AGREES


def test_sale_without_a_ledger_is_wrong() -> None:
    """An empty history proves nothing."""
    with pytest.raises(LedgerWrong) as caught:
        Replay().compare_sale(total=0, sold=0)
    assert caught.value.rule is Rule.LOADED_ONCE


def test_digest_tells_histories_apart() -> None:
    """The same rows give the same digest, a changed quantity another."""
    changed = [("loaded", None, 6), *GOOD[1:]]
    assert replay(rows(GOOD)).digest == replay(rows(GOOD)).digest
    assert replay(rows(GOOD)).digest != replay(rows(changed)).digest
