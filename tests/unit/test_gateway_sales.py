"""What the gateway may say by itself about a sale, and what it must ask."""

import pytest

from gateway.refusals import REMEMBERED_S, Refusals
from gateway.sales import CLOCK_SKEW_S, SaleView
from seckill.v1 import inventory_pb2, sale_pb2
from tests.factories import sale_terms

OPEN, PAUSED = sale_pb2.SALE_STATE_OPEN, sale_pb2.SALE_STATE_PAUSED
CLOSED = sale_pb2.SALE_STATE_CLOSED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
BUYER = ("sku", "buyer")


def view(
    *, remaining: int = 10, state: sale_pb2.SaleState.ValueType = OPEN, loaded: bool = True
) -> SaleView:
    """A sale of 10 units that began a second ago and goes on for an hour."""
    sale = sale_pb2.Sale(
        terms=sale_terms(units=10, starts_in_s=-1),
        state=state,
        remaining_units=remaining,
        sold_out=remaining == 0,
        loaded=loaded,
    )
    return SaleView.of(sale)


@pytest.mark.parametrize(
    ("sale", "after_start_s", "outcome"),
    [
        (view(), 1.0, None),
        (view(remaining=0), 1.0, SOLD_OUT),
        (view(state=PAUSED), 1.0, inventory_pb2.PURCHASE_OUTCOME_PAUSED),
        (view(state=CLOSED), 1.0, inventory_pb2.PURCHASE_OUTCOME_ENDED),
        (view(), -2 * CLOCK_SKEW_S, inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED),
        (view(), -0.5 * CLOCK_SKEW_S, None),
        (view(), 3601 + 2 * CLOCK_SKEW_S, inventory_pb2.PURCHASE_OUTCOME_ENDED),
        (view(), 3601 + 0.5 * CLOCK_SKEW_S, None),
        (view(remaining=0, loaded=False), 1.0, None),
    ],
)
def test_what_the_flags_say(sale: SaleView, after_start_s: float, outcome: int | None) -> None:
    """Near the edges of the window, and while nothing is loaded, inventory decides."""
    assert sale.refusal(sale.start_s + after_start_s) == outcome


def test_only_before_the_begin_is_it_sure_that_nobody_holds_a_unit() -> None:
    """An open sale's snapshot does not tell of the units sold since."""
    ended = inventory_pb2.PURCHASE_OUTCOME_ENDED
    not_started = inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED
    assert view().never_sold(not_started)
    assert not view(remaining=9).never_sold(not_started)
    assert not view().never_sold(ended)


def test_a_stranger_is_asked_for_once_and_then_told_from_memory() -> None:
    """For a second, and not for another buyer."""
    refusals, sale = Refusals(policy="ask-once", remembered_max=100), view(remaining=0)
    assert refusals.known(BUYER, sale, expected=SOLD_OUT, monotonic_s=5.0) is None
    refusals.note(BUYER, sale, outcome=SOLD_OUT, expected=SOLD_OUT, monotonic_s=5.0)
    assert refusals.known(BUYER, sale, expected=SOLD_OUT, monotonic_s=5.5) == SOLD_OUT
    assert refusals.known(("sku", "x"), sale, expected=SOLD_OUT, monotonic_s=5.5) is None
    late_s = 5.0 + REMEMBERED_S
    assert refusals.known(BUYER, sale, expected=SOLD_OUT, monotonic_s=late_s) is None


def test_a_new_snapshot_ends_the_memory() -> None:
    """Sold out, restocked, sold out again: the same flags, but another sale to this buyer."""
    refusals, sale, again = (
        Refusals(policy="ask-once", remembered_max=100),
        view(remaining=0),
        view(remaining=0),
    )
    refusals.note(BUYER, sale, outcome=SOLD_OUT, expected=SOLD_OUT, monotonic_s=5.0)
    assert refusals.known(BUYER, again, expected=SOLD_OUT, monotonic_s=5.1) is None


def test_a_holder_is_always_asked_for() -> None:
    """Only the script knows his order's number; also where flags refuse everybody else."""
    sale = view(remaining=0)
    refusals = Refusals(policy="local", remembered_max=100)
    assert refusals.known(BUYER, sale, expected=SOLD_OUT, monotonic_s=5.0) == SOLD_OUT
    refusals.note(BUYER, sale, outcome=RESERVED, expected=None, monotonic_s=5.0)
    assert refusals.known(BUYER, sale, expected=SOLD_OUT, monotonic_s=9.0) is None
