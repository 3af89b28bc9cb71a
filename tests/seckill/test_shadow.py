"""Skus of shadow sales: whose orders are removed, so nobody may sell units under such a name."""

import pytest

from seckill.errors import InvalidField
from seckill.shadow import PREFIX, check_shadow, is_shadow, new_sku
from seckill.validation import check_terms
from tests.kits.factories import sale_terms


def test_a_new_sku_is_one_of_a_shadow_sale() -> None:
    """And no other sku is."""
    assert is_shadow(new_sku())
    assert new_sku() != new_sku()
    assert not is_shadow("phone")


@pytest.mark.parametrize("sku", [f"{PREFIX}phone", f"{PREFIX}0123456789abc", PREFIX[:-1] + "-"])
def test_no_other_sku_may_begin_like_one(sku: str) -> None:
    """A sale by hand would lose its orders."""
    with pytest.raises(InvalidField, match=r"terms\.sku"):
        check_terms(sale_terms(sku=sku))


def test_a_shadow_sale_lasts_an_hour_at_most() -> None:
    """What was left by a command that was killed ends by itself."""
    sku = new_sku()
    check_terms(sale_terms(sku=sku, starts_in_s=-1, ends_in_s=3_598))
    with pytest.raises(InvalidField, match=r"terms\.end_time"):
        check_terms(sale_terms(sku=sku, starts_in_s=-1, ends_in_s=3_700))


def test_only_shadow_sales_can_be_removed() -> None:
    """Whatever a caller says."""
    check_shadow(new_sku())
    for sku in ("phone", f"{PREFIX}phone", ""):
        with pytest.raises(InvalidField, match="shadow sale"):
            check_shadow(sku)
