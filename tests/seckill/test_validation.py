"""Constraints of the contracts."""

import contextlib
import re

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from seckill.errors import InvalidField
from seckill.validation import (
    MINOR_UNITS_MAX,
    PURCHASE_LIMIT_MAX,
    SKU,
    TIME_MAX_S,
    Violations,
    check_terms,
    decode_page_token,
    encode_page_token,
    page_size,
)
from tests.kits.factories import sale_terms


def fields_of(error: InvalidField) -> list[str]:
    """Which fields it names."""
    return [field for field, _ in error.violations]


def test_all_broken_fields_are_named_at_once() -> None:
    """A caller need not correct one to learn of the next."""
    terms = sale_terms(units=0, limit=-1)
    terms.sku = "{x}"
    terms.unit_price.currency = "x"
    with pytest.raises(InvalidField) as caught:
        check_terms(terms)
    assert fields_of(caught.value) == [
        "terms.sku",
        "terms.total_units",
        "terms.unit_price.currency",
        "terms.purchase_limit",
    ]


@pytest.mark.parametrize("sku", ["a", "iphone-17_pro.max", "0", "x" * 64])
def test_good_skus_pass(sku: str) -> None:
    """Letters, digits, dots, dashes and underscores."""
    check_terms(sale_terms(sku=sku))


@pytest.mark.parametrize("sku", ["", "-a", "a b", "a/b", "a{b}", "x" * 65, "ü", "a\n"])
def test_bad_skus_are_refused(sku: str) -> None:
    """Above all braces, which would break the slot of a cluster."""
    violations = Violations()
    violations.sku("sku", sku)
    with pytest.raises(InvalidField):
        violations.check()


@pytest.mark.parametrize("field", ["start_time", "end_time"])
@pytest.mark.parametrize(
    "stamp",
    [
        Timestamp(seconds=1_795_273_200_000),  # milliseconds taken for seconds
        Timestamp(seconds=TIME_MAX_S + 1),
        Timestamp(seconds=-1),
        Timestamp(seconds=1, nanos=-1),
        Timestamp(seconds=1, nanos=1_000_000_000),
        Timestamp(seconds=-(2**63)),
    ],
    ids=str,
)
def test_a_time_that_is_none_is_named(field: str, stamp: Timestamp) -> None:
    """Before 1970, after 9999, or with nanoseconds of more than a second."""
    terms = sale_terms()
    getattr(terms, field).CopyFrom(stamp)
    with pytest.raises(InvalidField) as caught:
        check_terms(terms)
    assert fields_of(caught.value) == [f"terms.{field}"]


def test_times_up_to_the_last_one_pass() -> None:
    """A sale from 1970 to the last nanosecond of 9999."""
    terms = sale_terms()
    terms.start_time.CopyFrom(Timestamp())
    terms.end_time.CopyFrom(Timestamp(seconds=TIME_MAX_S, nanos=999_999_999))
    check_terms(terms)


@pytest.mark.parametrize(
    "window",
    [
        Duration(seconds=0),
        Duration(seconds=-5),
        Duration(seconds=60, nanos=-1),
        Duration(seconds=60, nanos=1_000_000_000),
        Duration(seconds=7 * 86_400, nanos=1),
        Duration(seconds=2**63 - 1),
    ],
    ids=str,
)
def test_a_duration_out_of_range_is_named(window: Duration) -> None:
    """Too short, too long, or with nanoseconds that are none."""
    terms = sale_terms()
    terms.payment_window.CopyFrom(window)
    with pytest.raises(InvalidField) as caught:
        check_terms(terms)
    assert fields_of(caught.value) == ["terms.payment_window"]


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f", "\x85", "\u2028"], ids=ascii)
def test_control_characters_are_refused_in_text(character: str) -> None:
    """Also those that only some programs take for the end of a line."""
    terms = sale_terms()
    terms.title = f"Phone{character}17"
    with pytest.raises(InvalidField) as caught:
        check_terms(terms)
    assert fields_of(caught.value) == ["terms.title"]


@pytest.mark.parametrize(
    "title", ["", "iPhone 17 Pro — 512 GB", "手机 50% off [/b]", "👩‍👩‍👧", "x" * 200]
)
def test_text_of_any_script_passes(title: str) -> None:
    """A title is what people read, up to 200 characters."""
    terms = sale_terms()
    terms.title = title
    check_terms(terms)


@pytest.mark.parametrize("amount", [-1, MINOR_UNITS_MAX + 1, 2**63 - 1])
def test_prices_that_would_not_fit_are_refused(amount: int) -> None:
    """The largest price times the largest quantity is within the database's bigint."""
    assert MINOR_UNITS_MAX * PURCHASE_LIMIT_MAX < 2**63
    terms = sale_terms()
    terms.unit_price.minor_units = amount
    with pytest.raises(InvalidField) as caught:
        check_terms(terms)
    assert fields_of(caught.value) == ["terms.unit_price.minor_units"]


@given(st.from_regex(SKU, fullmatch=True))
def test_a_page_token_brings_its_key_back(key: str) -> None:
    """What was encoded is decoded, the empty token is the start."""
    assert decode_page_token(encode_page_token(key), SKU) == key
    assert decode_page_token("", SKU) == ""


@given(st.text(min_size=1))
def test_a_made_up_page_token_is_refused_or_a_key(token: str) -> None:
    """Whatever is sent, it is refused by name or it is a key; nothing else comes out."""
    with contextlib.suppress(InvalidField):
        assert re.fullmatch(SKU, decode_page_token(token, SKU))
    with pytest.raises(InvalidField, match="page_token"):
        decode_page_token("!" + token, SKU)


def test_page_sizes_have_a_default_and_a_bound() -> None:
    """0 is 100; beyond 1,000 and below 0 is refused."""
    assert (page_size(0), page_size(1000)) == (100, 1000)
    for bad in (-1, 1001):
        with pytest.raises(InvalidField):
            page_size(bad)
