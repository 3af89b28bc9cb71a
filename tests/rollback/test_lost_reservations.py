"""Reservations that lost their way to the database are sent again by themselves."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from devstack import Stores
from inventory_svc.keys import sale_key, stock_key, users_key
from inventory_svc.stock.hold import format_hold
from inventory_svc.stock.holds import HoldsReader
from rollback_svc.reconciler import Reconciler
from seckill.order_no import make_order_nos
from seckill.v1 import order_pb2
from tests.kits.factories import new_id
from tests.kits.keys import until_drained
from tests.kits.reconcile import LaterClock, SellingSource, reconciler_of
from tests.kits.recovery import RESERVED, DamagedShop, buyers_of, open_shop, terms_of
from tests.kits.stores import Topics

UNITS = 20
LOST = 12


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def pending(shop: DamagedShop, numbers: list[str]) -> set[str]:
    """Those of the orders that the database has, and that can be paid."""
    return {
        order.order_no
        for order in await shop.found(numbers)
        if order.state == order_pb2.ORDER_STATE_PENDING
    }


async def repaired(reconciler: Reconciler) -> int:
    """What one round says it has repaired."""
    with capture_logs() as logs:
        await reconciler.run_once()
    (told,) = [entry for entry in logs if entry["event"] == "sales compared"]
    return int(told["repaired"])


async def until_written(shop: DamagedShop, sku: str, numbers: list[str]) -> None:
    """Wait until what was sent again is in the database."""
    for number in numbers:
        await shop.written(number)
    await until_drained(shop.redis, sku)


@contextmanager
def counted(name: str, **labels: str) -> Iterator[list[float]]:
    """By how much a metric has risen, as the only item once the context has ended."""
    rise: list[float] = []
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    yield rise
    rise.append((REGISTRY.get_sample_value(name, labels) or 0.0) - before)


async def test_reservations_of_a_trimmed_outbox_come_back_by_themselves(shop: DamagedShop) -> None:
    """One round sends them all, the next one finds nothing to repair."""
    sku = await shop.create(terms_of(UNITS))
    numbers = await shop.reserve_unsent(sku, buyers_of(LOST))
    reconciler = await reconciler_of(shop)
    with counted("seckill_reconcile_repairs_total", kind="order_missing") as rise:
        assert await repaired(reconciler) == LOST
    assert rise == [LOST]
    await until_written(shop, sku, numbers)
    assert await pending(shop, numbers) == set(numbers)
    assert await repaired(reconciler) == 0
    assert REGISTRY.get_sample_value(
        "seckill_reconcile_findings", {"kind": "order_missing"}
    ) == pytest.approx(0)
    assert await shop.stock(sku) == UNITS - LOST


async def test_they_come_back_while_the_sale_goes_on_selling(shop: DamagedShop) -> None:
    """Its counter cannot be compared then, and stays as it is; the orders can."""
    sku = await shop.create(terms_of(UNITS))
    numbers = await shop.reserve_unsent(sku, buyers_of(LOST))
    reconciler = await reconciler_of(shop, source=SellingSource)
    with counted("seckill_reconcile_sales_total", result="selling") as rise:
        assert await repaired(reconciler) == LOST
    assert rise == [1]
    await until_written(shop, sku, numbers)
    assert await pending(shop, numbers) == set(numbers)
    assert await shop.stock(sku) == UNITS - LOST
    assert await repaired(reconciler) == 0


async def test_holds_that_changed_while_they_were_read_name_epoch_and_repairs(
    shop: DamagedShop,
) -> None:
    """So that what is sent again can be told from what a rebuild has replaced."""
    sku = await shop.create(terms_of(UNITS))
    await shop.redis.hset(sale_key(sku), mapping={"epoch": 7, "repairs": 3})
    async for part in HoldsReader(shop.redis).read(sku):
        if part.HasField("summary"):
            assert (part.summary.consistent, part.summary.epoch) == (False, 7)
            assert (part.summary.repairs, part.summary.remaining_units) == (3, UNITS - 1)
        else:
            assert (await shop.reserve(sku, new_id("buyer"))).outcome == RESERVED


async def test_a_round_repairs_no_more_than_it_may(shop: DamagedShop) -> None:
    """The rest waits for the next rounds; more than one request's worth fits into one."""
    sku = await shop.create(terms_of(2_000))
    numbers = [
        number
        for buyers in (1_000, 500)
        for number in await shop.reserve_unsent(sku, buyers_of(buyers))
    ]
    reconciler = await reconciler_of(shop, holds_max=2_000, rollback_reconcile_repairs_max=1_200)
    assert await repaired(reconciler) == 1_200
    left = REGISTRY.get_sample_value(
        "seckill_reconcile_unrepaired_findings", {"kind": "order_missing"}
    )
    assert left == 300
    await until_drained(shop.redis, sku)
    assert await repaired(reconciler) == 300
    await until_drained(shop.redis, sku)
    assert await repaired(reconciler) == 0
    assert await pending(shop, numbers[:1_000]) == set(numbers[:1_000])
    assert await pending(shop, numbers[1_000:]) == set(numbers[1_000:])


async def test_units_that_are_sold_out_in_the_database_are_rejected(shop: DamagedShop) -> None:
    """The database has the last word, and the buyer is told by their order."""
    sku = await shop.create(terms_of(1))
    first = await shop.reserve(sku, new_id("buyer"))
    await shop.written(first.order_no)
    await until_drained(shop.redis, sku)
    buyer = new_id("buyer")
    (number,) = make_order_nos([buyer], now_s=LaterClock().now_s() - 100, rng=random.Random())
    hold = format_hold(number, quantity=1, request_id="first")
    await shop.redis.hset(users_key(sku), buyer, hold)
    await (await reconciler_of(shop)).run_once()
    order = await shop.written(number)
    assert order.state == order_pb2.ORDER_STATE_REJECTED


async def test_hold_of_a_rejected_order_that_lost_its_release_does_not_count(
    shop: DamagedShop,
) -> None:
    """Redis lost what the database has noted: released again, it is a rejection as before."""
    sku, buyer = await shop.create(terms_of(1)), new_id("buyer")
    first = await shop.reserve(sku, new_id("buyer"))
    await shop.written(first.order_no)
    await until_drained(shop.redis, sku)
    (number,) = make_order_nos([buyer], now_s=LaterClock().now_s() - 100, rng=random.Random())
    hold = format_hold(number, quantity=1, request_id="first")
    await shop.redis.hset(users_key(sku), buyer, hold)
    await (await reconciler_of(shop)).run_once()
    await shop.written(number)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    rejected = format_hold(number, quantity=1, request_id="first", rejected=True).encode()
    assert await shop.redis.hget(users_key(sku), buyer) == rejected
    await shop.redis.hset(users_key(sku), buyer, hold)
    await shop.redis.decrby(stock_key(sku), 1)
    await (await reconciler_of(shop)).run_once()
    assert await shop.redis.hget(users_key(sku), buyer) == rejected
