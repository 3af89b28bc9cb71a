"""Sales that are over: an archived one is not lost, a lost one comes back while it is needed."""

from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest

from devstack import Stores, create_topics
from inventory_svc.keys import sale_key, skus_key
from seckill.status import reason_of
from seckill.v1 import inventory_pb2, order_pb2, sale_pb2
from tests.kits.factories import new_id
from tests.kits.recovery import RESERVED, DamagedShop, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

ENDED = inventory_pb2.PURCHASE_OUTCOME_ENDED
UNITS = 5


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own; events are sent."""
    events = new_id("events")
    await create_topics(stores.kafka_bootstrap, {events: 1})
    async with open_shop(
        stores,
        redis_url=redis_url,
        database_dsn=database_dsn,
        topics=topics,
        order_events_topic=events,
    ) as opened:
        yield opened


async def close(shop: DamagedShop, sku: str) -> None:
    """Close a sale for good."""
    request = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_CLOSED)
    await shop.inventory.UpdateSale(request, timeout=TIMEOUT_S)


async def archive(shop: DamagedShop, sku: str) -> bool:
    """Archive a sale; whether it could be."""
    request = inventory_pb2.ArchiveSaleRequest(sku=sku)
    try:
        return (await shop.inventory.ArchiveSale(request, timeout=TIMEOUT_S)).archived
    except grpc.aio.AioRpcError as error:
        if reason_of(error) != "SALE_STATE":
            raise
        return False


async def sale_of(shop: DamagedShop, sku: str) -> sale_pb2.Sale:
    """The sale as callers are shown it."""
    request = inventory_pb2.GetSaleRequest(sku=sku)
    return (await shop.inventory.GetSale(request, timeout=TIMEOUT_S)).sale


async def archived_with_one_paid(shop: DamagedShop, terms: sale_pb2.SaleTerms, buyer: str) -> str:
    """An archived sale of which a buyer has a paid unit; the order's number."""
    await shop.create(terms)
    order_no = (await shop.reserve(terms.sku, buyer)).order_no
    await shop.written(order_no)
    await shop.pay(order_no)
    await close(shop, terms.sku)
    await eventually(partial(archive, shop, terms.sku))
    return order_no


async def test_an_archived_sale_has_ended_and_is_not_lost(shop: DamagedShop) -> None:
    """Attempts get an outcome, callers its terms, operators the reason; creating it once more with
    its terms does not load it. One that Redis has lost is still told as not loaded.
    """
    terms, buyer = terms_of(UNITS), new_id("buyer")
    sku = terms.sku
    await archived_with_one_paid(shop, terms, buyer)
    for user in (buyer, new_id("buyer")):
        assert (await shop.reserve(sku, user)).outcome == ENDED
    shown = await sale_of(shop, sku)
    assert (shown.state, shown.loaded) == (sale_pb2.SALE_STATE_CLOSED, False)
    assert shown.terms.title == terms.title
    again = inventory_pb2.CreateSaleRequest(terms=terms)
    assert not (await shop.inventory.CreateSale(again, timeout=TIMEOUT_S)).sale.loaded
    assert not await shop.redis.exists(sale_key(sku))
    assert not await shop.redis.sismember(skus_key(), sku)
    change = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_PAUSED)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.inventory.UpdateSale(change, timeout=TIMEOUT_S)
    assert reason_of(refused.value) == "SALE_STATE"
    other = await shop.create(terms_of(UNITS))
    await shop.lose(other)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shop.reserve(other, new_id("buyer"))
    assert reason_of(refused.value) == "SALE_NOT_LOADED"
    assert await lost(shop) == [other]


async def test_units_refunded_after_the_archive_come_back_with_the_rebuild(
    shop: DamagedShop,
) -> None:
    """Redis has nothing to give them back to, so they are restored at once; what is rebuilt counts
    them, answers the buyer's old request, and sells nothing. It can be archived once more.
    """
    terms, buyer = terms_of(UNITS), new_id("buyer")
    sku = terms.sku
    order_no = await archived_with_one_paid(shop, terms, buyer)
    refund = order_pb2.RefundOrderRequest(order_no=order_no, refund_id=new_id("r"), restock=True)
    await shop.orders.RefundOrder(refund, timeout=TIMEOUT_S)
    swept = await (await shop.sweeper()).run_once(0.0)
    assert swept.ok
    assert swept.restored_units == 0
    row = await shop.sql.fetchrow("SELECT * FROM order_details WHERE order_no = $1", order_no)
    assert row["restored_at"] is not None
    rebuilt = await shop.rebuild(sku)
    assert (rebuilt.state, rebuilt.loaded) == (sale_pb2.SALE_STATE_CLOSED, True)
    assert rebuilt.remaining_units == UNITS
    told = await shop.reserve(sku, buyer)
    assert (told.outcome, told.order_no) == (RESERVED, order_no)
    assert (await shop.reserve(sku, new_id("buyer"))).outcome == ENDED
    await eventually(partial(archive, shop, sku))
    assert not (await sale_of(shop, sku)).loaded


async def test_a_closed_sale_that_is_lost_is_listed_while_units_are_to_be_given_back(
    shop: DamagedShop,
) -> None:
    """Else they would be tried for ever; nobody needs one that has nothing left to do."""
    sku = await shop.create(terms_of(UNITS))
    order_no = (await shop.reserve(sku, new_id("buyer"))).order_no
    await shop.written(order_no)
    await close(shop, sku)
    await shop.lose(sku)
    assert await lost(shop) == []
    await shop.cancel(order_no)
    assert await lost(shop) == [sku]
    assert not await restored(shop, order_no)
    await shop.rebuild(sku)
    await eventually(partial(restored, shop, order_no))
    assert await shop.stock(sku) == UNITS
    await shop.lose(sku)
    assert await lost(shop) == []


async def lost(shop: DamagedShop) -> list[str]:
    """The sales that a round of the reconciler rebuilds."""
    request = inventory_pb2.ListLostSalesRequest()
    return list((await shop.inventory.ListLostSales(request, timeout=TIMEOUT_S)).skus)


async def restored(shop: DamagedShop, order_no: str) -> bool:
    """Whether an order's units are back, after one more sweep."""
    await (await shop.sweeper()).run_once(0.0)
    query = "SELECT restored_at IS NOT NULL FROM order_details WHERE order_no = $1"
    return bool(await shop.sql.fetchval(query, order_no))
