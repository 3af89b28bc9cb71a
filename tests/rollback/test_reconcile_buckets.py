"""The reconciler on a sale of several buckets: sums over all, repairs in the homes of buyers."""

import time
from collections.abc import AsyncIterator, Mapping

import pytest

from devstack import Stores
from inventory_svc.keys import stock_key, users_key
from rollback_svc.comparison import Repair
from seckill.runtime.bucket_tags import tags_of
from seckill.v1 import inventory_pb2, rollback_pb2
from tests.kits.buckets import BucketKit, buyer_at
from tests.kits.keys import until_drained
from tests.kits.reconcile import reconciler_of
from tests.kits.recovery import RESERVED, DamagedShop, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics

HOLD_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING
STOCK = rollback_pb2.RECONCILE_FINDING_KIND_STOCK
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
BUCKETS, UNITS = 4, 12


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[BucketKit]:
    """Another replica's hands in the same Redis."""
    kit = BucketKit(redis_url)
    yield kit
    await kit.close()


async def open_sale(shop: DamagedShop, kit: BucketKit) -> str:
    """A new sale's sku."""
    terms = terms_of(UNITS)
    terms.buckets = BUCKETS
    sku = await shop.create(terms)
    await kit.layouts.learn([sku])
    return sku


async def bought(shop: DamagedShop, sku: str, *, home: int) -> tuple[str, str]:
    """(Buyer, number) of a new buyer's order, once the database has it."""
    buyer = buyer_at(home, BUCKETS)
    result = await shop.reserve(sku, buyer)
    assert result.outcome == RESERVED
    await shop.written(result.order_no)
    await until_drained(shop.redis, tags_of(sku, BUCKETS)[home])
    return buyer, result.order_no


async def compare(
    shop: DamagedShop, sku: str, *, repair: bool = False, restock: bool = False
) -> rollback_pb2.ReconcileResponse:
    """What is found now."""
    reconciler = await reconciler_of(shop)
    word = Repair.ACCOUNTED if repair else Repair.NOTHING
    word |= Repair.RESTOCK if restock else Repair.NOTHING
    return (await reconciler.reconcile(sku, timeout_s=TIMEOUT_S, repair=word)).to_response()


def kinds(response: rollback_pb2.ReconcileResponse) -> Mapping[int, bool]:
    """Kind → whether it was repaired."""
    return {finding.kind: finding.repaired for finding in response.findings}


async def test_units_on_their_way_are_no_drift(shop: DamagedShop, kit: BucketKit) -> None:
    """One transfer has left its bucket, another has arrived and is not settled."""
    sku = await open_sale(shop, kit)
    for home in range(BUCKETS):
        await bought(shop, sku, home=home)
    tags = tags_of(sku, BUCKETS)
    await kit.step_lend(tags, 0, 1)
    await kit.step_take(tags, 2, 3, await kit.step_lend(tags, 2, 3))

    response = await compare(shop, sku, repair=True, restock=True)

    assert (len(response.findings), response.drift_units) == (0, 0)
    assert sum(await kit.units(sku)) == UNITS - 4 - 1


async def test_a_counter_that_is_too_high_is_lowered_where_most_is_left(
    shop: DamagedShop, kit: BucketKit
) -> None:
    """Four too many, and no bucket has more than three: none is left with a debt."""
    sku = await open_sale(shop, kit)
    tags = tags_of(sku, BUCKETS)
    await shop.redis.set(stock_key(tags[0]), 7)
    told = await compare(shop, sku)
    assert (kinds(told), told.drift_units) == ({STOCK: False}, 4)

    assert kinds(await compare(shop, sku, repair=True)) == {STOCK: True}

    assert await kit.units(sku) == [3, 3, 3, 3]
    assert not (await compare(shop, sku, repair=True)).findings


async def test_units_that_a_failover_lost_come_back_by_an_operators_word(
    shop: DamagedShop, kit: BucketKit
) -> None:
    """A bucket has forgotten units that it took: nobody sells them until then."""
    sku = await open_sale(shop, kit)
    tags = tags_of(sku, BUCKETS)
    lent = await kit.step_lend(tags, 0, 1)
    await kit.step_take(tags, 0, 1, lent)
    await kit.step_settle(tags, 0, 1, lent)
    await shop.redis.decrby(stock_key(tags[1]), lent[1])
    assert (await compare(shop, sku, repair=True)).drift_units == -lent[1]

    assert kinds(await compare(shop, sku, repair=True, restock=True)) == {STOCK: True}

    assert sum(await kit.units(sku)) == UNITS
    assert not (await compare(shop, sku)).findings


async def test_a_hold_that_is_gone_is_written_in_its_home_and_no_other_bucket_sells_its_unit(
    shop: DamagedShop, kit: BucketKit
) -> None:
    """The home has no unit left for it: it borrows one, so that the sum is what can be sold."""
    sku = await open_sale(shop, kit)
    buyer, number = await bought(shop, sku, home=2)
    await bought(shop, sku, home=2)
    await bought(shop, sku, home=2)
    home = tags_of(sku, BUCKETS)[2]
    # As after a failover to a replica that lagged, and the unit was sold again since.
    await shop.redis.hdel(users_key(home), buyer)
    await shop.redis.incr(stock_key(home))
    await bought(shop, sku, home=2)
    told = await compare(shop, sku)
    assert (kinds(told), told.drift_units) == ({HOLD_MISSING: False, STOCK: False}, 1)

    done = await compare(shop, sku, repair=True)

    assert kinds(done) == {HOLD_MISSING: True, STOCK: True}
    assert (await shop.reserve(sku, buyer)).order_no == number
    assert min(await kit.units(sku)) == 0
    assert sum(await kit.units(sku)) == UNITS - 4
    assert not (await compare(shop, sku, repair=True)).findings


async def test_an_ended_order_gives_its_units_back_to_the_buyers_home(
    shop: DamagedShop, kit: BucketKit
) -> None:
    """Cancelled, restored and compared: all of it agrees, and the unit can be sold."""
    sku = await open_sale(shop, kit)
    _, number = await bought(shop, sku, home=1)
    await shop.cancel(number)
    sweeper = await shop.sweeper()
    assert (await sweeper.run_once(time.time())).ok

    response = await compare(shop, sku, repair=True)

    assert (len(response.findings), sum(await kit.units(sku))) == (0, UNITS)
