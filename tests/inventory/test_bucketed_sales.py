"""Sales of several buckets, by the real order and inventory services."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest

from devstack import Stores
from inventory_svc.keys import (
    outbox_key,
    sale_key,
    skus_key,
    stock_key,
    transfers_key,
    users_key,
)
from seckill.runtime.bucket_tags import tags_of
from seckill.status import reason_of
from seckill.v1 import inventory_pb2, order_pb2, sale_pb2
from tests.kits.buckets import buyer_at
from tests.kits.recovery import RESERVED, DamagedShop, Result, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
PAUSED = inventory_pb2.PURCHASE_OUTCOME_PAUSED
BUCKETS, UNITS = 4, 12


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Both services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


def bucketed(units: int = UNITS) -> sale_pb2.SaleTerms:
    """Terms of a sale of several buckets."""
    terms = terms_of(units)
    terms.buckets = BUCKETS
    return terms


async def sale_of(shop: DamagedShop, sku: str) -> sale_pb2.Sale:
    """The sale as it is now."""
    request = inventory_pb2.GetSaleRequest(sku=sku)
    return (await shop.inventory.GetSale(request, timeout=TIMEOUT_S)).sale


async def buy(shop: DamagedShop, sku: str, count: int, *, home: int) -> list[tuple[str, Result]]:
    """(Buyer, answer) of new buyers of one home, one after the other."""
    buyers = [buyer_at(home, BUCKETS) for _ in range(count)]
    return [(buyer, await shop.reserve(sku, buyer)) for buyer in buyers]


async def all_written(shop: DamagedShop, answers: list[tuple[str, Result]]) -> None:
    """Wait until the database has each order."""
    for _, answer in answers:
        if answer.order_no:
            await shop.written(answer.order_no)


async def test_a_sale_says_how_many_buckets_it_has(shop: DamagedShop) -> None:
    """They are terms: on record, shown, and not to be changed by creating the sale again."""
    terms = bucketed()
    sku = await shop.create(terms)

    assert (await sale_of(shop, sku)).terms.buckets == BUCKETS
    listed = await shop.inventory.ListSales(inventory_pb2.ListSalesRequest(), timeout=TIMEOUT_S)
    assert [(sale.terms.buckets, sale.remaining_units) for sale in listed.sales] == [
        (BUCKETS, UNITS)
    ]
    assert await shop.create(terms) == sku
    terms.buckets = 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.create(terms)
    assert reason_of(caught.value) == "SALE_EXISTS"


async def test_a_caller_that_knows_no_buckets_neither_registers_nor_rebuilds(
    shop: DamagedShop,
) -> None:
    """A replica of the release before would sell its units beside those in the buckets."""
    register = order_pb2.RegisterSaleRequest(terms=bucketed())
    sku = await shop.create(bucketed())
    for call in (
        shop.orders.RegisterSale(register, timeout=TIMEOUT_S),
        shop.orders.BeginRebuild(order_pb2.BeginRebuildRequest(sku=sku), timeout=TIMEOUT_S),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await shop.redis.exists(sale_key(sku), stock_key(sku)) == 0


async def test_orders_of_all_buckets_reach_the_database(shop: DamagedShop) -> None:
    """Each outbox is drained; what is sold is the stock, though one home had all buyers."""
    sku = await shop.create(bucketed())

    answers = await buy(shop, sku, UNITS + 3, home=1) + await buy(shop, sku, 1, home=2)

    outcomes = Counter(answer.outcome for _, answer in answers)
    assert outcomes == {RESERVED: UNITS, SOLD_OUT: 4}
    await all_written(shop, answers)
    request = order_pb2.GetSaleTotalsRequest(sku=sku)
    totals = await shop.orders.GetSaleTotals(request, timeout=TIMEOUT_S)
    assert totals.sold_units == UNITS


async def test_a_pause_stops_all_buckets(shop: DamagedShop) -> None:
    """State and window are those of the sale, no matter which bucket is asked."""
    sku = await shop.create(bucketed())
    for state, outcome in (
        (sale_pb2.SALE_STATE_PAUSED, PAUSED),
        (sale_pb2.SALE_STATE_OPEN, RESERVED),
    ):
        update = inventory_pb2.UpdateSaleRequest(sku=sku, state=state)
        sale = (await shop.inventory.UpdateSale(update, timeout=TIMEOUT_S)).sale
        assert sale.state == state
        answers = [await buy(shop, sku, 1, home=home) for home in range(BUCKETS)]
        assert {answer.outcome for ((_, answer),) in answers} == {outcome}
    record = order_pb2.GetSaleRecordRequest(sku=sku)
    assert (await shop.orders.GetSaleRecord(record, timeout=TIMEOUT_S)).sale.revision == 2


async def test_a_pause_that_reached_one_bucket_is_finished_by_the_reconcilers_round(
    shop: DamagedShop,
) -> None:
    """The replica that was asked has stopped after the first one."""
    sku = await shop.create(bucketed())
    first = sale_key(tags_of(sku, BUCKETS)[0])
    await shop.redis.hset(first, mapping={"state": "paused", "revision": 1})

    sync = inventory_pb2.SyncSaleRequest(sku=sku)
    assert (await shop.inventory.SyncSale(sync, timeout=TIMEOUT_S)).changed

    ((_, answer),) = await buy(shop, sku, 1, home=3)
    assert answer.outcome == PAUSED
    assert not (await shop.inventory.SyncSale(sync, timeout=TIMEOUT_S)).changed


async def test_added_units_are_sold_to_buyers_of_any_home(shop: DamagedShop) -> None:
    """They come to one bucket once, however often it is told, and are borrowed from there."""
    sku = await shop.create(bucketed())
    await buy(shop, sku, UNITS, home=2)
    assert (await sale_of(shop, sku)).sold_out
    add = inventory_pb2.AddStockRequest(sku=sku, units=5, addition_id="more")

    for _ in range(2):
        sale = (await shop.inventory.AddStock(add, timeout=TIMEOUT_S)).sale
    assert (sale.remaining_units, sale.terms.total_units) == (5, UNITS + 5)

    answers = await buy(shop, sku, 6, home=3)
    assert [answer.outcome for _, answer in answers] == [RESERVED] * 5 + [SOLD_OUT]


async def test_watchers_learn_that_the_whole_sale_is_sold_out_and_is_not_any_more(
    shop: DamagedShop,
) -> None:
    """An empty bucket is no news; the last unit is, and one that comes back."""
    sku = await shop.create(bucketed())
    seen: asyncio.Queue[sale_pb2.Sale] = asyncio.Queue()

    async def watch() -> None:
        async for message in shop.inventory.WatchSales(inventory_pb2.WatchSalesRequest()):
            for sale in message.sales:
                if sale.terms.sku == sku:
                    seen.put_nowait(sale)

    async with asyncio.timeout(60):
        task = asyncio.create_task(watch())
        assert not (await seen.get()).sold_out
        answers = await buy(shop, sku, UNITS, home=0)
        assert (await seen.get()).sold_out
        buyer, answer = answers[0]
        item = inventory_pb2.ReleaseItem(order_no=answer.order_no, user_id=buyer)
        release = inventory_pb2.ReleaseRequest(sku=sku, items=[item])
        await shop.inventory.Release(release, timeout=TIMEOUT_S)
        assert not (await seen.get()).sold_out
        task.cancel()


@pytest.mark.parametrize("lost", [0, 2])
async def test_a_sale_with_a_lost_bucket_is_rebuilt_as_a_whole(
    shop: DamagedShop, lost: int
) -> None:
    """Holds of all buckets are there again, and each unit that was free is sold once."""
    sku = await shop.create(bucketed())
    answers = [one for home in range(BUCKETS) for one in await buy(shop, sku, 2, home=home)]
    await all_written(shop, answers)
    tag = tags_of(sku, BUCKETS)[lost]
    await shop.redis.delete(sale_key(tag), stock_key(tag), users_key(tag), outbox_key(tag))
    lost_sales = inventory_pb2.ListLostSalesRequest()
    listed = await shop.inventory.ListLostSales(lost_sales, timeout=TIMEOUT_S)
    assert list(listed.skus) == [sku]
    # Its other buckets go on selling until then.
    late = await buy(shop, sku, 1, home=(lost + 1) % BUCKETS)
    await all_written(shop, late)

    await shop.rebuild(sku)

    sale = await sale_of(shop, sku)
    assert (sale.epoch, sale.remaining_units) == (2, UNITS - 9)
    for buyer, answer in answers + late:
        assert (await shop.reserve(sku, buyer)).order_no == answer.order_no
    others = await buy(shop, sku, UNITS - 9 + 1, home=lost)
    assert [answer.outcome for _, answer in others] == [RESERVED] * (UNITS - 9) + [SOLD_OUT]
    await all_written(shop, others)


async def test_what_only_holds_of_other_buckets_know_of_survives_the_rebuild(
    shop: DamagedShop,
) -> None:
    """Kafka has lost what was reserved in one bucket, then Redis all of another: the rebuild, which
    closes both, has their orders written first.
    """
    sku = await shop.create(bucketed())
    kept, lost = tags_of(sku, BUCKETS)[1:3]
    buyers = [buyer_at(1, BUCKETS) for _ in range(2)]
    promised = await shop.reserve_unsent(sku, buyers, bucket=kept)
    await shop.redis.delete(sale_key(lost), stock_key(lost), users_key(lost), outbox_key(lost))

    sale = await shop.rebuild(sku)

    assert [order.order_no for order in await shop.found(promised)] == promised
    assert sale.remaining_units == UNITS - 2


async def test_two_rebuilds_at_once_load_one_sale(shop: DamagedShop) -> None:
    """The later one bars the other's loads: no bucket sells under an epoch that is over."""
    sku = await shop.create(bucketed())
    answers = await buy(shop, sku, 3, home=1)
    await all_written(shop, answers)
    tag = tags_of(sku, BUCKETS)[1]
    await shop.redis.delete(sale_key(tag), stock_key(tag))

    await asyncio.gather(*(shop.rebuild(sku) for _ in range(3)), return_exceptions=True)

    async def loaded() -> sale_pb2.Sale:
        return await sale_of(shop, sku)

    sale = await eventually(loaded, lambda sale: sale.loaded)
    assert sale.remaining_units == UNITS - 3
    epochs = [await shop.redis.hget(sale_key(tag), "epoch") for tag in tags_of(sku, BUCKETS)]
    assert len(set(epochs)) == 1
    sold = [answer.outcome for _, answer in await buy(shop, sku, UNITS - 3 + 1, home=3)]
    assert sold == [RESERVED] * (UNITS - 3) + [SOLD_OUT]


async def test_what_redis_has_on_a_buyer_is_found_in_their_home(shop: DamagedShop) -> None:
    """An operator who asks gets the hold, in this sale and among all."""
    sku = await shop.create(bucketed())
    ((buyer, answer),) = await buy(shop, sku, 1, home=2)
    for asked in (sku, ""):
        explain = inventory_pb2.ExplainHoldsRequest(user_id=buyer, sku=asked)
        found = await shop.inventory.ExplainHolds(explain, timeout=TIMEOUT_S)
        assert [event.order_no for event in found.events if event.kind == "held"] == [
            answer.order_no
        ]


async def test_nothing_of_an_archived_sale_stays(shop: DamagedShop) -> None:
    """The keys of all buckets go, and the sale comes back, closed, by a rebuild."""
    sku = await shop.create(bucketed())
    tags = tags_of(sku, BUCKETS)
    close = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_CLOSED)
    await shop.inventory.UpdateSale(close, timeout=TIMEOUT_S)

    archive = inventory_pb2.ArchiveSaleRequest(sku=sku)
    assert (await shop.inventory.ArchiveSale(archive, timeout=TIMEOUT_S)).archived

    for tag in tags:
        keys = [name(tag) for name in (sale_key, stock_key, users_key, outbox_key, transfers_key)]
        assert await shop.redis.exists(*keys) == 0
    assert not await shop.redis.hexists("seckill:buckets", sku)
    assert not await shop.redis.sismember(skus_key(), sku)
    await shop.rebuild(sku)
    sale = await sale_of(shop, sku)
    assert (sale.state, sale.terms.buckets) == (sale_pb2.SALE_STATE_CLOSED, BUCKETS)
    assert [await shop.redis.exists(stock_key(tag)) for tag in tags] == [1] * BUCKETS


async def test_a_lost_copy_of_the_layout_is_written_again(shop: DamagedShop) -> None:
    """The reconciler's round lists lost sales, and learns of buckets from the database."""
    sku = await shop.create(bucketed())
    await shop.redis.delete("seckill:buckets")

    lost = inventory_pb2.ListLostSalesRequest()
    assert not (await shop.inventory.ListLostSales(lost, timeout=TIMEOUT_S)).skus

    assert await shop.redis.hget("seckill:buckets", sku) == b"4"
