"""What people write on the command line."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from xml.etree import ElementTree as ET

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import sale_pb2
from seckill_cli.currencies import EXPONENTS
from seckill_cli.terms import duration, length_s, moment, money, show_moment, show_money


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the machine's time zone for a test."""

    def choose(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172800), ("500ms", 0.5)]
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    """With one unit behind."""
    assert length_s(text, "--ttl") == seconds
    assert duration(text, "--ttl").ToNanoseconds() == seconds * 1e9


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("9.90", "CNY", 990),
        ("9", "EUR", 900),
        ("500", "JPY", 500),
        ("1000", "ISK", 1000),
        ("1000", "XAF", 1000),
        ("1.234", "KWD", 1234),
        ("1.234", "OMR", 1234),
        ("1.2345", "CLF", 12345),
    ],
)
def test_money_is_read_in_minor_units_and_shown_again(text: str, currency: str, minor: int) -> None:
    """By the currency's own number of decimals."""
    amount = money(text, currency, "--price")
    assert amount == sale_pb2.Money(currency=currency, minor_units=minor)
    assert money(show_money(amount).split()[0], currency, "--price") == amount


def test_the_currencies_are_those_of_iso_4217() -> None:
    """Each code of list one that has minor units, and no other."""
    table = ET.fromstring((files("iso4217") / "table.xml").read_bytes())  # noqa: S314
    listed = {each.findtext("Ccy"): each.findtext("CcyMnrUnts") for each in table.iter("CcyNtry")}
    with_units = {code: units for code, units in listed.items() if code and units != "N.A."}
    assert {code: str(exponent) for code, exponent in EXPONENTS.items()} == with_units
    assert len(EXPONENTS) > 150


def test_an_amount_in_an_unknown_currency_is_shown_as_it_is() -> None:
    """Not a hundredth of it."""
    assert show_money(sale_pb2.Money(currency="ZZZ", minor_units=7)) == "7 minor units of ZZZ"


@pytest.mark.parametrize(
    ("read", "option", "text"),
    [
        (lambda: length_s("soon", "--ttl"), "--ttl", "'soon'"),
        (lambda: length_s("999999999d", "--ttl"), "--ttl", "100 years"),
        (lambda: length_s("9" * 400 + "d", "--ttl"), "--ttl", "'999"),
        (lambda: money("cheap", "CNY", "--price"), "--price", "'cheap'"),
        (lambda: money("1.234", "CNY", "--price"), "--price", "2 decimal places"),
        (lambda: money("0.5", "JPY", "--price"), "--price", "0 decimal places"),
        (lambda: money("NaN", "CNY", "--price"), "--price", "'NaN'"),
        (lambda: money("-1", "CNY", "--price"), "--price", "'-1'"),
        (lambda: money("99999999999999999999", "CNY", "--price"), "--price", "'9999"),
        (lambda: money("99999999999999999", "CNY", "--price"), "--price", "more than any price"),
        (lambda: money("1", "ZZZ", "--price"), "--currency", "'ZZZ'"),
        (lambda: money("1", "XAU", "--price"), "--currency", "'XAU'"),
        (lambda: moment("tomorrow", "--end"), "--end", "'tomorrow'"),
        (lambda: moment("+999999999d", "--end"), "--end", "100 years"),
        (lambda: moment("9999-12-31T23:59:59-12:00", "--end"), "--end", "9999"),
        (lambda: moment("0001-01-01T00:00:00+14:00", "--end"), "--end", "9999"),
        (lambda: moment("1969-12-31T00:00:00Z", "--end"), "--end", "1970"),
    ],
)
def test_what_cannot_be_read_is_quoted_and_the_option_named(
    read: Callable[[], object], option: str, text: str
) -> None:
    """Length, amount, decimals, currency, time."""
    with pytest.raises(typer.BadParameter) as refused:
        read()
    assert refused.value.param_hint == f"'{option}'"
    assert text in refused.value.message


def test_a_local_time_that_the_clocks_skip_or_repeat_needs_an_offset(
    local_time: Callable[[str], None],
) -> None:
    """As on the two days of the year in New York; with an offset each is a time."""
    local_time("America/New_York")
    with pytest.raises(typer.BadParameter, match=r"does not exist.*-0500 or -0400"):
        moment("2027-03-14T02:30:00", "--start")
    with pytest.raises(typer.BadParameter, match=r"is twice.*-0400 or -0500"):
        moment("2027-11-07T01:30:00", "--start")
    first = moment("2027-11-07T01:30:00-04:00", "--start")
    second = moment("2027-11-07T01:30:00-05:00", "--start")
    assert second.seconds - first.seconds == 3600
    assert moment("2027-07-01T12:00:00", "--start").ToDatetime(UTC) == datetime(
        2027, 7, 1, 16, tzinfo=UTC
    )


def test_shown_times_carry_year_and_offset_and_can_be_given_back(
    local_time: Callable[[str], None],
) -> None:
    """The two hours that look alike are told apart."""
    local_time("America/New_York")
    text = "2027-11-07T01:30:00-05:00"
    assert show_moment(moment(text, "--start")) == "2027-11-07 01:30:00-05:00"
    assert moment(show_moment(moment(text, "--start")), "--start") == moment(text, "--start")
    assert show_moment(Timestamp()) == "-"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "UTC"])
def test_any_time_that_a_service_stores_can_be_shown(
    local_time: Callable[[str], None], zone: str
) -> None:
    """Also the last second, which is in the year 10000 there, and what is no time."""
    local_time(zone)
    last = Timestamp()
    last.FromJsonString("9999-12-31T23:59:59Z")
    assert show_moment(last).startswith("9999-12-31 23:59:59")
    assert "after 1970" in show_moment(Timestamp(seconds=2**60))
