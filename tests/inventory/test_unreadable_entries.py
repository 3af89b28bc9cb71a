"""Undecodable outbox entries: the reservation behind each is found, and the database decides."""

import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from devstack import Stores
from inventory_svc.keys import RELAY_GROUP, outbox_key, skus_key, stock_key, users_key
from inventory_svc.outbox.entry import Entry, Unsendable
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.outbox.unreadable import UnreadableEntries
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.hold import format_hold
from inventory_svc.stock.holds import HoldsReader
from order_svc.intake.dead_letter_topic import StoredDeadLetter
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.runtime.redis_client import server_of
from seckill.v1 import order_pb2
from tests.kits.consumer import read_dead_letters
from tests.kits.factories import new_id
from tests.kits.keys import until_drained
from tests.kits.recovery import DamagedShop, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

UNITS = 10
REJECTED, PENDING = order_pb2.ORDER_STATE_REJECTED, order_pb2.ORDER_STATE_PENDING
# What becomes of "epoch reserve_ms" and a line "order_no quantity request_id user_id"; the last of
# an entry of version 0.2.
DAMAGES: dict[str, Callable[[str], dict[Any, Any]]] = {
    "a word is missing": lambda number: {"b": f"1 1700000000000\n{number} 2 buyer"},
    "the first line is damaged": lambda number: {"b": f"1\n{number} 2 first buyer"},
    "only the number is left": lambda number: {"b": number},
    "nothing is left of a line": lambda _: {"b": "1 1700000000000\ngarbage"},
    "nothing is left": lambda _: {"b": "garbage"},
    "another field": lambda _: {"other": b"\xff"},
    "a word is missing, 0.2": lambda number: {"o": f"{number} 1 1 request buyer"},
    "nothing is left, 0.2": lambda _: {"o": "garbage"},
}


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores,
        redis_url=redis_url,
        database_dsn=database_dsn,
        topics=topics,
        inventory_relay_claim_idle_s=1.0,
    ) as opened:
        yield opened


async def reserve_damaged(shop: DamagedShop, sku: str, damage: str) -> str:
    """What reserve.lua does for a new buyer, but for the entry; the number of their order."""
    buyer = new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    server = await server_of(shop.redis, outbox_key(sku))
    async with server.pipeline(transaction=True) as pipeline:
        pipeline.xadd(outbox_key(sku), DAMAGES[damage](number))
        pipeline.hset(users_key(sku), buyer, format_hold(number, quantity=2, request_id="first"))
        pipeline.decrby(stock_key(sku), 2)
        await pipeline.execute()
    return number


async def state(shop: DamagedShop, number: str) -> order_pb2.OrderState.ValueType | None:
    """Return the state of an order as its buyer sees it."""
    order = await shop.order(number)
    return order.state if order else None


async def letters(shop: DamagedShop, count: int) -> list[StoredDeadLetter]:
    """The dead letters, once there are so many."""

    async def read() -> list[StoredDeadLetter]:
        return await read_dead_letters(shop.stores.kafka_bootstrap, shop.topics.dead_letters)

    return await eventually(read, lambda found: len(found) >= count)


async def bought(shop: DamagedShop, sku: str) -> str:
    """The number of an order that is on record."""
    number = (await shop.reserve(sku, new_id("buyer"))).order_no
    await eventually(lambda: state(shop, number), lambda seen: seen == PENDING)
    return number


async def emptied(shop: DamagedShop, sku: str) -> None:
    """Wait until nothing of the outbox is left, read or unread."""
    await until_drained(shop.redis, sku)
    pending = await shop.redis.xpending(outbox_key(sku), RELAY_GROUP)
    assert pending["pending"] == 0


@pytest.mark.parametrize("damage", DAMAGES)
async def test_units_of_an_unreadable_entry_return_once_and_its_buyer_learns_it(
    shop: DamagedShop, damage: str
) -> None:
    """One dead letter, one rejected order, its units back once; orders beside it are untouched."""
    sku = await shop.create(terms_of(UNITS))
    before = await bought(shop, sku)
    number = await reserve_damaged(shop, sku, damage)
    after = await bought(shop, sku)
    await eventually(lambda: state(shop, number), lambda seen: seen == REJECTED)
    await emptied(shop, sku)
    sweeper = await shop.sweeper()
    assert (await sweeper.run_once(time.time())).restored_units == 2
    assert (await sweeper.run_once(time.time())).restored_units == 0
    assert await shop.stock(sku) == UNITS - 2
    assert [await state(shop, one) for one in (before, after)] == [PENDING, PENDING]
    (letter,) = await letters(shop, 1)
    assert letter.header("ce_type") == "seckill.outbox.undecodable.v1"
    assert (letter.header("units"), letter.header("order_no")) == ("returned", number)
    totals = await shop.totals(sku)
    assert (totals.sold_units, totals.rejected_units, totals.restored_units) == (2, 2, 2)


async def test_entries_without_a_reservation_behind_them_return_nothing(shop: DamagedShop) -> None:
    """Noise, and a damaged copy of an entry whose order is on record: that order stays."""
    sku = await shop.create(terms_of(UNITS))
    number = await bought(shop, sku)
    await shop.redis.xadd(outbox_key(sku), {"o": f"{number} what"})
    await shop.redis.xadd(outbox_key(sku), {"o": "noise"})
    await emptied(shop, sku)
    assert len(await letters(shop, 2)) == 2
    # The consumers have dealt with whatever was sent.
    await shop.orders.AwaitConsumed(order_pb2.AwaitConsumedRequest(), timeout=TIMEOUT_S)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 0
    assert await state(shop, number) == PENDING
    assert await shop.stock(sku) == UNITS - 1
    totals = await shop.totals(sku)
    assert (totals.sold_units, totals.rejected_units) == (1, 0)


async def test_a_reservation_on_its_way_is_not_taken_for_the_lost_one(shop: DamagedShop) -> None:
    """While consumers lag no hold can be told to lack its order: it is found afterwards."""
    sku = await shop.create(terms_of(UNITS))
    lock = shop.sql.transaction()
    await lock.start()
    await shop.sql.execute("SELECT FROM sales WHERE sku = $1 FOR UPDATE", sku)
    late = (await shop.reserve(sku, new_id("buyer"))).order_no
    await until_drained(shop.redis, sku)
    number = await reserve_damaged(shop, sku, "nothing is left")

    async def times_delivered() -> int:
        found = await shop.redis.xpending_range(
            outbox_key(sku), RELAY_GROUP, min="-", max="+", count=1
        )
        return int(found[0]["times_delivered"]) if found else 0

    # Tried, given up for the time being, and tried again.
    await eventually(times_delivered, lambda times: times >= 2)
    assert await state(shop, late) is None
    await lock.rollback()
    await eventually(lambda: state(shop, number), lambda seen: seen == REJECTED)
    await eventually(lambda: state(shop, late), lambda seen: seen == PENDING)
    await emptied(shop, sku)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 2
    assert await shop.stock(sku) == UNITS - 1


async def test_a_reservation_that_waits_in_the_outbox_is_not_taken_for_the_lost_one(
    shop: DamagedShop,
) -> None:
    """What another relay has read and not yet sent will still become an order."""
    sku = await shop.create(terms_of(UNITS))
    await shop.redis.srem(skus_key(), sku)  # what no relay knows of stays where it is
    buyer = new_id("buyer")
    (waiting,) = make_order_nos([buyer], now_s=time.time(), rng=random.Random())
    words = (waiting, 1, 1, int(time.time() * 1000), "first", buyer)
    await shop.redis.hset(
        users_key(sku), buyer, format_hold(waiting, quantity=1, request_id="first")
    )
    await shop.redis.xadd(outbox_key(sku), {"o": " ".join(map(str, words))})
    number = await reserve_damaged(shop, sku, "nothing is left")
    streams = OutboxStreams(shop.redis, consumer="test", entries_max=10, claim_idle_s=60.0)
    unreadable = UnreadableEntries(
        sales=Sales(shop.redis),
        holds=HoldsReader(shop.redis),
        streams=streams,
        registry=SaleRegistry(shop.orders, clock=SystemClock(), timeout_s=TIMEOUT_S),
    )
    entry = Entry(outbox_key(sku), f"{int(time.time() * 1000)}-0".encode(), b"garbage")
    records = await unreadable.records(sku, [Unsendable(entry, 0, b"garbage", "noise")])
    assert [record.key.decode() for record in records] == [number]
