"""Metrics of single sales, counted from the orders in the database."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from order_svc.sales.gauges import SaleGauges
from seckill.runtime.clock import SystemClock
from tests.kits.order_store import Store, payment


def value(name: str, sku: str, **labels: str) -> float | None:
    """Return what a metric of a sale says; None if it does not show the sale."""
    return REGISTRY.get_sample_value(f"seckill_sale_{name}", {"sku": sku, **labels})


def gauges_of(store: Store, *, sales_max: int = 20) -> SaleGauges:
    """Gauges that are asked to count by hand."""
    return SaleGauges(store.database, SystemClock(), sales_max=sales_max, interval_s=60.0)


async def test_units_are_told_by_the_state_of_their_orders(store: Store) -> None:
    """Pending, paid, cancelled and not back yet, then back."""
    sku = await store.sale(total=10)
    paid, given_up, _ = await store.pending(sku, 3)
    await store.payments.record(payment(paid))
    await store.orders.cancel(given_up, user_id="")
    gauges = gauges_of(store)
    await gauges.run_once()
    states = {state: value("order_units", sku, state=state) for state in ("pending", "paid")}
    assert states == {"pending": 1, "paid": 1}
    assert value("order_units", sku, state="cancelled") == 1
    assert (value("unsold_units", sku), value("oversold_units", sku)) == (8, 0)
    assert (value("returning_units", sku), value("restored_units", sku)) == (1, 0)
    await store.orders.mark_restored([given_up])
    await gauges.run_once()
    assert (value("returning_units", sku), value("restored_units", sku)) == (0, 1)


async def test_an_oversold_sale_is_seen_though_its_guard_was_removed(store: Store) -> None:
    """The orders are counted, not what the guarded row says of them."""
    sku = await store.sale(total=3)
    await store.pending(sku, 3)
    await store.sql.execute("UPDATE sales SET sold = 0 WHERE sku = $1", sku)
    await store.pending(sku, 2)
    await gauges_of(store).run_once()
    assert (value("oversold_units", sku), value("unsold_units", sku)) == (2, 0)


async def test_no_more_sales_are_shown_than_wanted(store: Store) -> None:
    """The latest start first; one that is over for an hour, or pushed out, is shown no longer."""
    skus = [await store.sale() for _ in range(3)]
    gauges = gauges_of(store, sales_max=2)
    await gauges.run_once()
    assert [value("unsold_units", sku) for sku in skus] == [None, 1_000, 1_000]
    await store.sql.execute(
        "UPDATE sales SET starts_at = now() - interval '3 h', ends_at = now() - $2::interval"
        " WHERE sku = $1",
        skus[2],
        timedelta(minutes=59),
    )
    await gauges.run_once()
    # The one that still sells comes before the one that is over.
    assert [value("unsold_units", sku) for sku in skus] == [1_000, 1_000, None]


@pytest.mark.parametrize("ended_before", ["59 min", "61 min"])
async def test_a_sale_is_shown_for_an_hour_after_its_end(store: Store, ended_before: str) -> None:
    """What comes back then is still watched."""
    sku = await store.sale()
    await store.sql.execute(
        "UPDATE sales SET starts_at = now() - interval '3 h', ends_at = now() - $2::text::interval"
        " WHERE sku = $1",
        sku,
        ended_before,
    )
    await gauges_of(store).run_once()
    assert (value("unsold_units", sku) is not None) is (ended_before == "59 min")
