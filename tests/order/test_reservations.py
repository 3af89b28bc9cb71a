"""Which messages are reservations."""

import random

import pytest

from order_svc.db.statements import statement
from order_svc.intake.reservations import Undecodable, decode_reservation
from seckill.order_no import make_order_nos
from seckill.v1.events_pb2 import OrderReserved


def reservation(**changes: object) -> OrderReserved:
    """A valid reservation, but for the changes."""
    (number,) = make_order_nos(["u"], now_s=1_700_000_000.0, rng=random.Random(1))
    facts = {
        "order_no": number,
        "sku": "kettle",
        "user_id": "u",
        "request_id": "r",
        "quantity": 1,
        "epoch": 1,
    }
    return OrderReserved(**(facts | changes))  # type: ignore[arg-type]


def test_valid_reservation_is_decoded() -> None:
    """What was encoded comes back."""
    event = reservation()
    assert decode_reservation(event.SerializeToString()) == event


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"order_no": "short"}, "order_no"),
        ({"sku": ""}, "sku"),
        ({"sku": "a b"}, "sku"),
        ({"user_id": "with space"}, "user_id"),
        ({"user_id": "u" * 129}, "user_id"),
        ({"user_id": "nul\0"}, "user_id"),
        ({"request_id": ""}, "request_id"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 1_001}, "quantity"),
        ({"epoch": -1}, "epoch"),
    ],
)
def test_field_that_breaks_its_constraint_is_named(changes: dict[str, object], named: str) -> None:
    """Nothing that the database would refuse gets there."""
    with pytest.raises(Undecodable, match=named):
        decode_reservation(reservation(**changes).SerializeToString())


@pytest.mark.parametrize("value", [None, b"", b"\xff\xff", b"plain text"])
def test_message_that_is_no_reservation_is_refused(value: bytes | None) -> None:
    """Empty messages, tombstones and other encodings."""
    with pytest.raises(Undecodable):
        decode_reservation(value)


def test_unknown_statement_is_an_error() -> None:
    """A misspelt name fails at once."""
    with pytest.raises(FileNotFoundError):
        statement("drop_everything")
