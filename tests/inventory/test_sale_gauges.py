"""Metrics of single sales, as Redis has them."""

import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from inventory_svc.sales.gauges import SaleGauges
from seckill.v1 import sale_pb2
from tests.kits.factories import sale_terms
from tests.kits.inventory import StockKit, attempt


def value(name: str, sku: str) -> float | None:
    """Return what a metric of a sale says; None if it does not show the sale."""
    return REGISTRY.get_sample_value(f"seckill_sale_{name}", {"sku": sku})


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[StockKit]:
    """A Redis of the test's own."""
    kit = StockKit(redis_url)
    yield kit
    await kit.close()


async def test_remaining_and_held_units_are_those_of_redis(kit: StockKit) -> None:
    """And whether it sells, and how long buyers may take to pay."""
    sku = await kit.load(sale_terms(units=10, payment_window_s=90.0))
    await kit.reserve(sku, attempt("alice"), attempt("bob"))
    gauges = SaleGauges(sales_max=5)
    (sale,) = await kit.sales.read([sku])
    gauges.note(sale, now_s=time.time())
    assert [value(f"{name}_units", sku) for name in ("total", "remaining", "held")] == [10, 8, 2]
    assert (value("selling", sku), value("payment_window_seconds", sku)) == (1, 90)
    await kit.sales.update(sku, {"state": "paused"}, timeout_s=5.0)
    (sale,) = await kit.sales.read([sku])
    gauges.note(sale, now_s=time.time())
    assert value("selling", sku) == 0
    assert gauges.skus == {sku}


def a_sale(*, starts_in_s: float, ends_in_s: float = 3_600.0) -> sale_pb2.Sale:
    """A loaded sale that nobody has bought from."""
    terms = sale_terms(starts_in_s=starts_in_s, ends_in_s=ends_in_s)
    return sale_pb2.Sale(
        terms=terms, state=sale_pb2.SALE_STATE_OPEN, remaining_units=10, loaded=True
    )


def test_the_latest_sales_are_shown_and_others_hidden() -> None:
    """In whichever order they are read; one whose keys are lost is hidden, too."""
    older, newer, newest = (a_sale(starts_in_s=-age_s) for age_s in (30, 20, 10))
    future, over = a_sale(starts_in_s=60), a_sale(starts_in_s=-9_000, ends_in_s=-3_700)
    ended = a_sale(starts_in_s=-5, ends_in_s=-1)
    gauges = SaleGauges(sales_max=2)
    for sale in (newer, older, future, newest, over, ended):
        gauges.note(sale, now_s=time.time())
    assert gauges.skus == {newer.terms.sku, newest.terms.sku}
    assert value("remaining_units", older.terms.sku) is None
    newest.loaded = False
    gauges.note(newest, now_s=time.time())
    assert value("remaining_units", newest.terms.sku) is None
    gauges.note(older, now_s=time.time())
    assert gauges.skus == {newer.terms.sku, older.terms.sku}


def test_none_is_shown_where_none_is_wanted() -> None:
    """SECKILL_SALE_METRICS_MAX=0."""
    sale = a_sale(starts_in_s=-1)
    gauges = SaleGauges(sales_max=0)
    gauges.note(sale, now_s=time.time())
    assert gauges.skus == set()
    assert value("total_units", sale.terms.sku) is None
