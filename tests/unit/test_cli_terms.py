"""What people write on the command line."""

import pytest
import typer

from seckill.cli.terms import length_s, moment, money, show_money
from seckill.v1 import sale_pb2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172800), ("500ms", 0.5)]
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    """With one unit behind."""
    assert length_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("9.90", "CNY", 990), ("9", "EUR", 900), ("500", "JPY", 500), ("1.234", "KWD", 1234)],
)
def test_money_is_read_in_minor_units_and_shown_again(text: str, currency: str, minor: int) -> None:
    """By the currency's own number of decimals."""
    amount = money(text, currency)
    assert amount == sale_pb2.Money(currency=currency, minor_units=minor)
    assert money(show_money(amount).split()[0], currency) == amount


def test_what_cannot_be_read_is_quoted() -> None:
    """Length, amount, decimals, time."""
    for read in (
        lambda: length_s("soon"),
        lambda: money("cheap", "CNY"),
        lambda: money("1.234", "CNY"),
        lambda: money("NaN", "CNY"),
        lambda: moment("tomorrow"),
    ):
        with pytest.raises(typer.BadParameter, match="'"):
            read()
