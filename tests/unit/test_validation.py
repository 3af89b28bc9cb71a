"""Constraints of the contracts."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seckill.errors import InvalidField
from seckill.validation import (
    SKU,
    Violations,
    check_terms,
    decode_page_token,
    encode_page_token,
    page_size,
)
from tests.factories import sale_terms


def fields_of(error: InvalidField) -> list[str]:
    """Which fields it names."""
    return [field for field, _ in error.violations]


def test_all_broken_fields_are_named_at_once() -> None:
    """Nobody has to correct one to learn of the next."""
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


@given(st.from_regex(SKU, fullmatch=True))
def test_a_page_token_brings_its_key_back(key: str) -> None:
    """What was encoded is decoded, the empty token is the beginning."""
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
