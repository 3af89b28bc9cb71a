"""What is counted of a buyer's orders, and from where orders were reserved."""

import random
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from order_svc.hoarding.buyers import BuyerHistories, Sighting
from seckill.order_no import make_order_nos
from seckill.v1 import hoarding_pb2, hoarding_pb2_grpc
from tests.kits.operator import Desk, open_desk
from tests.kits.order_store import Store, payment, reservations
from tests.kits.stores import Topics

MONTH = timedelta(days=30)


@pytest.fixture
def histories(store: Store) -> BuyerHistories:
    """What is counted."""
    return BuyerHistories(store.database)


async def order_of(store: Store, user: str, *, quantity: int = 1) -> str:
    """Write a pending order of this buyer in a sale of its own; return its number."""
    sku = await store.sale()
    (event,) = reservations(sku, 1, quantity=quantity, users=[user])
    await store.writer.write([event])
    return event.order_no


async def counts(histories: BuyerHistories, user: str, fingerprint: bytes = b"") -> dict[str, int]:
    """Return the counts of one buyer that are not zero."""
    (row,) = await histories.count([(user, fingerprint)], window=MONTH)
    return {name: count for name, count in row.items() if count}


async def test_orders_are_counted_over_all_sales_by_what_became_of_them(
    store: Store, histories: BuyerHistories
) -> None:
    """Pending, paid, expired, given up soon, given up late; others' orders do not count."""
    user, other = f"user-{uuid.uuid4().hex}", f"user-{uuid.uuid4().hex}"
    assert await counts(histories, user) == {}
    numbers = [await order_of(store, user) for _ in range(6)]
    await order_of(store, other)
    assert await counts(histories, user) == {"pending": 6}

    await store.payments.record(payment(numbers[0]))
    # A change of mind gives the unit back while others still look for one.
    await store.orders.cancel(numbers[1], user_id=user)
    assert await counts(histories, user) == {"pending": 4, "paid": 1}
    # Nobody wants a unit that comes back when the crowd has left.
    await store.sql.execute(
        "UPDATE orders SET created_at = now() - interval '10 min', expires_at = now() +"
        " interval '5 min' WHERE order_no = $1",
        numbers[2],
    )
    await store.orders.cancel(numbers[2], user_id=user)
    assert await counts(histories, user) == {"pending": 3, "paid": 1, "unpaid": 1}
    (row,) = await store.orders.find([numbers[3]])
    await store.expire(row["sku"])
    await store.orders.cancel_expired([numbers[3]])
    assert await counts(histories, user) == {"pending": 2, "paid": 1, "unpaid": 2}


async def test_what_is_long_ago_is_forgiven(store: Store, histories: BuyerHistories) -> None:
    """An order that was not paid counts within the window."""
    user = f"user-{uuid.uuid4().hex}"
    number = await order_of(store, user)
    (row,) = await store.orders.find([number])
    await store.expire(row["sku"])
    await store.orders.cancel_expired([number])
    await store.sql.execute(
        "UPDATE orders SET cancelled_at = now() - interval '40 days' WHERE order_no = $1", number
    )
    assert await counts(histories, user) == {}
    (row,) = await histories.count([(user, b"")], window=timedelta(days=41))
    assert row["unpaid"] == 1


async def test_counting_uses_indexes_and_ends(store: Store, histories: BuyerHistories) -> None:
    """A buyer with many orders costs no more than one with a hundred."""
    user = f"user-{uuid.uuid4().hex}"
    sku = await store.sale()
    # 149 that were not paid, and thousands that the mesh has rejected.
    await store.sql.execute(
        "INSERT INTO orders (order_no, sku, user_id, request_id, quantity, amount_minor, currency,"
        " status, epoch, expires_at, cancelled_at, cancel_reason)"
        " SELECT lpad(n::text, 26, '0'), $1, $2, 'r', 1, 1, 'EUR',"
        " CASE WHEN n < 150 THEN 'cancelled' ELSE 'rejected' END, 1, now() + interval '1 h', now(),"
        " CASE WHEN n < 150 THEN 'expired' ELSE 'no_stock' END FROM generate_series(1, 3000) n",
        sku,
        user,
    )
    await store.sql.execute("ANALYZE orders")
    assert await counts(histories, user) == {"unpaid": 100}
    plan = await store.sql.fetch(
        "EXPLAIN SELECT FROM orders o WHERE o.user_id = $1 AND o.status = 'cancelled'"
        " AND o.cancelled_at > now() - interval '30 days'",
        user,
    )
    assert "orders_unpaid_of_buyer" in "".join(row[0] for row in plan)


async def test_orders_of_a_fingerprint_are_counted_whoever_buys(
    store: Store, histories: BuyerHistories
) -> None:
    """Three buyers with one card have three pending orders among them; each order has one card."""
    card, other_card, home = b"c" * 16, b"o" * 16, b"h" * 16
    users = [f"user-{uuid.uuid4().hex}" for _ in range(3)]
    numbers = [await order_of(store, user) for user in users]
    assert await histories.record([Sighting(number, home, card) for number in numbers]) == 3
    again = [Sighting(number, home, other_card) for number in numbers]
    assert await histories.record(again) == 0
    expected = {"pending": 1, "fingerprint_pending": 3}
    assert await counts(histories, users[0], card) == expected
    assert await counts(histories, "nobody", other_card) == {}
    await store.payments.record(payment(numbers[1]))
    assert await counts(histories, "nobody", card) == {"fingerprint_pending": 2}


async def test_sightings_are_forgotten_after_their_time(
    store: Store, histories: BuyerHistories
) -> None:
    """Old ones go, young ones stay; none but the order's number and two hashes was kept."""
    numbers = make_order_nos(["a", "b"], now_s=1.0, rng=random.Random())
    await histories.record([Sighting(number, b"a" * 16, b"") for number in numbers])
    await store.sql.execute(
        "UPDATE order_sightings SET at = now() - interval '31 days' WHERE order_no = $1", numbers[0]
    )
    assert await histories.prune(kept=MONTH) == 1
    rows = await store.sql.fetch("SELECT * FROM order_sightings")
    assert [row["order_no"] for row in rows] == [numbers[1]]
    assert set(rows[0].keys()) == {"order_no", "address", "fingerprint", "at"}


@pytest.fixture
async def desk(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A running order service."""
    async with open_desk(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics, secrets=tmp_path
    ) as opened:
        yield opened


async def test_gateways_ask_in_batches_and_bad_input_is_named(desk: Desk, store: Store) -> None:
    """Answers come in the order of the buyers; each wrong field is named."""
    user = f"user-{uuid.uuid4().hex}"
    number = await order_of(store, user)
    async with grpc.aio.insecure_channel(desk.address) as channel:
        stub = hoarding_pb2_grpc.BuyerHistoryServiceStub(channel)
        sighting = hoarding_pb2.OrderSighting(order_no=number, fingerprint=b"f" * 16)
        request = hoarding_pb2.RecordSightingsRequest(sightings=[sighting])
        assert (await stub.RecordSightings(request)).recorded_count == 1
        key = hoarding_pb2.BuyerKey
        answer = await stub.BatchGetBuyerHistories(
            hoarding_pb2.BatchGetBuyerHistoriesRequest(
                buyers=[key(user_id="nobody"), key(user_id=user, fingerprint=b"f" * 16)]
            )
        )
        nobody, buyer = answer.histories
        assert nobody == hoarding_pb2.BuyerHistory()
        assert (buyer.pending_orders, buyer.fingerprint_pending_orders) == (1, 1)

        wrong = hoarding_pb2.BatchGetBuyerHistoriesRequest(
            buyers=[key(user_id=""), key(user_id="a", fingerprint=b"short")]
        )
        wrong.window.FromSeconds(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.BatchGetBuyerHistories(wrong)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        named = refused.value.details() or ""
        assert all(
            field in named for field in ("buyers[0].user_id", "buyers[1].fingerprint", "window")
        )
        empty = hoarding_pb2.RecordSightingsRequest()
        with pytest.raises(grpc.aio.AioRpcError, match="sightings"):
            await stub.RecordSightings(empty)
