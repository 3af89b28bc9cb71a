"""What must be done before a sale is archived, each reason by itself."""

import pytest

from seckill.errors import SaleNotFound
from tests.kits.order_store import Store, payment


async def close(store: Store, sku: str) -> None:
    """Put on record that the sale is closed."""
    await store.sql.execute(
        "INSERT INTO sale_records (sku, state, starts_at, ends_at, revision)"
        " VALUES ($1, 'closed', now() - interval '1 h', now(), 1)",
        sku,
    )


async def test_each_thing_that_is_left_to_do_is_named(store: Store) -> None:
    """A pending order, its event, a webhook, its units on their way back: and then nothing."""
    sku = await store.sale()
    assert await store.sales.reasons_not_to_archive(sku) == ["it is on record as open"]
    await close(store, sku)
    assert await store.sales.reasons_not_to_archive(sku) == []
    await store.sql.execute("INSERT INTO webhook_endpoints (name, kinds) VALUES ('e', '{created}')")
    paid, expired = await store.pending(sku, 2)
    assert await store.sales.reasons_not_to_archive(sku) == [
        "2 orders are pending",
        "2 order events are not in Kafka",
        "2 webhooks are not delivered",
    ]
    await store.sql.execute("UPDATE webhook_deliveries SET dead_at = now()")
    await store.payments.pay(payment(paid))
    await store.expire(sku)
    await store.orders.cancel_expired([expired])
    await store.sql.execute("DELETE FROM order_events")
    assert await store.sales.reasons_not_to_archive(sku) == [
        "1 orders have units that are not back in Redis"
    ]
    await store.sql.execute("UPDATE restore_outbox SET restored_at = now()")
    assert await store.sales.reasons_not_to_archive(sku) == []


async def test_other_sales_do_not_count(store: Store) -> None:
    """And an unknown sku is none."""
    busy, quiet = await store.sale(), await store.sale()
    await store.pending(busy, 3)
    await close(store, quiet)
    assert await store.sales.reasons_not_to_archive(quiet) == []
    with pytest.raises(SaleNotFound):
        await store.sales.reasons_not_to_archive("sku-of-nothing")
