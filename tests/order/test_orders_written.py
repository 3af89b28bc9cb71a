"""Reservation events become rows: each once, none beyond the stock, one live order a buyer."""

import asyncio
import random
import uuid

import pytest

from order_svc.intake.written import encode_fresh
from order_svc.orders.model import order_of
from seckill.errors import SaleExists
from seckill.v1 import order_pb2
from tests.kits.order_store import Store, reservations, terms


async def test_redelivered_batch_changes_nothing(store: Store) -> None:
    """Rows, units sold and ledger are the same after the second time, and all rows are found."""
    sku = await store.sale()
    events = reservations(sku, 500)
    first = await store.writer.write(events)
    before = await store.facts(sku)
    second = await store.writer.write(events)
    assert len(first.fresh) == 500
    assert not second.fresh
    assert len(second.found) == 500
    # Timestamps come back from the database to the microsecond, as they were written.
    assert second.expire_times_s() == first.expire_times_s()
    assert await store.facts(sku) == before
    assert before == {"sold": 500, "live": 500, "orders": 500, "ledger": 501, "outbox": 0}


async def test_batch_half_redelivered_writes_the_other_half(store: Store) -> None:
    """What is new in a redelivered batch is written, even if the sale has just room for it."""
    sku = await store.sale(total=300)
    events = reservations(sku, 300)
    await store.writer.write(events[:200])
    batch = await store.writer.write(events)
    assert (len(batch.fresh), len(batch.found)) == (100, 200)
    assert {status for _, status in batch.fresh} == {"pending"}
    assert (await store.facts(sku))["sold"] == 300


async def test_projection_of_a_fresh_order_is_its_row(store: Store) -> None:
    """The bytes put together from the batch are the order that the database then has."""
    sku = await store.sale(total=2)
    batch = await store.writer.write(reservations(sku, 3))
    for number, status, encoded in encode_fresh(batch):
        row = await store.orders.get(number)
        assert row["status"] == status
        assert order_pb2.Order.FromString(encoded) == order_of(row)


async def test_same_batch_by_two_consumers_at_once_is_written_once(store: Store) -> None:
    """Of two concurrent transactions with the same rows exactly one writes each row."""
    sku = await store.sale()
    events = reservations(sku, 400)
    batches = await asyncio.gather(*(store.writer.write(events) for _ in range(4)))
    assert sum(len(batch.fresh) for batch in batches) == 400
    assert all(len(batch.fresh) + len(batch.found) == 400 for batch in batches)
    assert await store.facts(sku) == {
        "sold": 400,
        "live": 400,
        "orders": 400,
        "ledger": 401,
        "outbox": 0,
    }


async def test_overlapping_batches_of_many_sales_do_not_deadlock(store: Store) -> None:
    """Batches in any order over the same sales and rows, beside cancellations, all succeed."""
    skus = [await store.sale() for _ in range(4)]
    events = [event for sku in skus for event in reservations(sku, 50)]
    rng = random.Random(7)

    async def consume() -> None:
        mine = rng.sample(events, 150)
        await store.writer.write(mine)
        await store.orders.cancel_expired([event.order_no for event in mine])
        await store.orders.cancel(mine[0].order_no, user_id="")

    await asyncio.gather(*(consume() for _ in range(12)))
    await store.writer.write(events)
    for sku in skus:
        facts = await store.facts(sku)
        assert facts["orders"] == 50
        assert facts["sold"] == facts["live"]
    assert (
        await store.sql.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        == 0
    )


async def test_stock_beyond_the_total_is_rejected_in_order(store: Store) -> None:
    """As many as fit become orders, the later numbers are rejected with their units to restore."""
    sku = await store.sale(total=100)
    events = reservations(sku, 150)
    batch = await store.writer.write(events)
    statuses = [status for _, status in batch.fresh]
    assert statuses == ["pending"] * 100 + ["rejected"] * 50
    assert await store.facts(sku) == {
        "sold": 100,
        "live": 100,
        "orders": 150,
        "ledger": 151,
        "outbox": 50,
    }
    reasons = await store.sql.fetch(
        "SELECT DISTINCT cancel_reason FROM orders WHERE sku = $1 AND status = 'rejected'", sku
    )
    assert [row[0] for row in reasons] == ["no_stock"]
    await store.writer.write(events)
    assert (await store.facts(sku))["outbox"] == 50


async def test_racing_batches_never_pass_the_total(store: Store) -> None:
    """Ten batches of thirty at once on a hundred units make a hundred live units."""
    sku = await store.sale(total=100)
    await asyncio.gather(*(store.writer.write(reservations(sku, 30)) for _ in range(10)))
    facts = await store.facts(sku)
    assert (facts["sold"], facts["live"], facts["outbox"]) == (100, 100, 200)


async def test_second_order_of_a_buyer_is_rejected_once(store: Store) -> None:
    """The same buyer and sku under another number: one live order, one restore row."""
    sku = await store.sale()
    users = [f"user-{uuid.uuid4().hex}"] * 3
    same_batch = reservations(sku, 3, users=users)
    later = reservations(sku, 1, users=users[:1])
    for _ in range(2):
        await store.writer.write(same_batch)
        await store.writer.write(later)
    facts = await store.facts(sku)
    assert facts == {"sold": 1, "live": 1, "orders": 4, "ledger": 5, "outbox": 3}
    first = await store.orders.get(same_batch[0].order_no)
    assert first["status"] == "pending"


async def test_cancelled_buyer_may_have_a_new_order(store: Store) -> None:
    """A cancelled order does not stand in the way of the next."""
    sku = await store.sale(total=1)
    event = reservations(sku, 1)[0]
    await store.writer.write([event])
    await store.orders.cancel(event.order_no, user_id=event.user_id)
    batch = await store.writer.write(reservations(sku, 1, users=[event.user_id]))
    assert [status for _, status in batch.fresh] == ["pending"]


async def test_reservation_of_an_unknown_sku_is_told_apart(store: Store) -> None:
    """The others of its batch are written."""
    sku = await store.sale()
    stray = reservations("never-registered", 1)
    batch = await store.writer.write([*reservations(sku, 9), *stray])
    assert len(batch.fresh) == 9
    assert list(batch.unknown) == stray


async def test_registering_again_needs_the_same_terms(store: Store) -> None:
    """The same terms answer the same sale, others are refused, and the ledger has one load."""
    sku = f"sku-{uuid.uuid4().hex}"
    wanted = terms(sku)
    results = await asyncio.gather(*(store.sales.register(wanted) for _ in range(4)))
    assert sum(created for _, created in results) == 1
    with pytest.raises(SaleExists):
        await store.sales.register(terms(sku, total=1_001))
    assert (await store.facts(sku))["ledger"] == 1
