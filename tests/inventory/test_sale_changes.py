"""Units added, terms and windows changed while both stores may fail: one state in the end."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from devstack import Stores
from inventory_svc.keys import sale_key, users_key
from seckill.status import DETAILS_KEY, reason_of
from seckill.v1 import inventory_pb2, order_pb2, sale_pb2
from tests.kits.factories import moment, new_id, sale_terms
from tests.kits.recovery import RESERVED, DamagedShop, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics

SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
PAUSED, CLOSED = sale_pb2.SALE_STATE_PAUSED, sale_pb2.SALE_STATE_CLOSED
OPEN = sale_pb2.SALE_STATE_OPEN


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Both services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def add(
    shop: DamagedShop, sku: str, units: int, *, addition_id: str = ""
) -> inventory_pb2.AddStockResponse:
    """Add units, under an id of its own or this one."""
    request = inventory_pb2.AddStockRequest(
        sku=sku, units=units, addition_id=addition_id or new_id("addition")
    )
    return await shop.inventory.AddStock(request, timeout=TIMEOUT_S)


async def on_record_only(shop: DamagedShop, sku: str, units: int) -> None:
    """An addition whose process died before Redis was told."""
    request = order_pb2.AddUnitsRequest(sku=sku, units=units, addition_id=f"died-{sku}")
    await shop.orders.AddUnits(request, timeout=TIMEOUT_S)


async def update(shop: DamagedShop, request: inventory_pb2.UpdateSaleRequest) -> sale_pb2.Sale:
    """The sale after a change."""
    return (await shop.inventory.UpdateSale(request, timeout=TIMEOUT_S)).sale


async def sync(shop: DamagedShop, sku: str) -> inventory_pb2.SyncSaleResponse:
    """What the reconciler does in each round."""
    request = inventory_pb2.SyncSaleRequest(sku=sku)
    return await shop.inventory.SyncSale(request, timeout=TIMEOUT_S)


async def record_of(shop: DamagedShop, sku: str) -> order_pb2.SaleRecord:
    """The sale as it is on record."""
    request = order_pb2.GetSaleRecordRequest(sku=sku)
    return (await shop.orders.GetSaleRecord(request, timeout=TIMEOUT_S)).sale


def fields_of(error: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> list[str]:
    """The fields that an INVALID_ARGUMENT names."""
    encoded = dict(error.value.trailing_metadata() or ())[DETAILS_KEY]
    assert isinstance(encoded, bytes)
    bad = error_details_pb2.BadRequest()
    found = [one for one in status_pb2.Status.FromString(encoded).details if one.Unpack(bad)]
    return [violation.field for violation in bad.field_violations] if found else []


async def test_added_units_are_sold_once_each(shop: DamagedShop) -> None:
    """A sale that is sold out gets twenty additions, of which each is stated twice at once."""
    sku = await shop.create(terms_of(1))
    assert (await shop.reserve(sku, "first")).outcome == RESERVED
    assert (await shop.reserve(sku, "second")).outcome == SOLD_OUT
    ids = [new_id("addition") for _ in range(20)] * 2
    answers = await asyncio.gather(*(add(shop, sku, 2, addition_id=one) for one in ids))
    assert sum(answer.added for answer in answers) == 20
    assert await shop.stock(sku) == 40
    assert (await shop.totals(sku)).total_units == 41
    assert (await record_of(shop, sku)).terms.total_units == 41
    assert (await shop.reserve(sku, "second")).outcome == RESERVED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(shop, sku, 3, addition_id=ids[0])
    assert fields_of(caught) == ["units"]
    assert await shop.stock(sku) == 39


async def test_units_on_record_that_redis_was_not_told_of_come_by_themselves(
    shop: DamagedShop,
) -> None:
    """By the repeated call, by the reconciler's, by a rebuild; and by all of them only once."""
    repeated, reconciled, rebuilt = [await shop.create(terms_of(1)) for _ in range(3)]
    for sku in (repeated, reconciled, rebuilt):
        await on_record_only(shop, sku, 4)
        assert await shop.stock(sku) == 1
    assert not (await add(shop, repeated, 4, addition_id=f"died-{repeated}")).added
    assert (await sync(shop, reconciled)).changed
    await shop.lose(rebuilt)
    await shop.rebuild(rebuilt)
    for sku in (repeated, reconciled, rebuilt):
        assert not (await sync(shop, sku)).changed
        assert await shop.stock(sku) == 5


async def test_units_added_to_a_lost_sale_come_with_its_rebuild(shop: DamagedShop) -> None:
    """The call says that it is not on sale yet; repeated, it changes nothing."""
    sku = await shop.create(terms_of(1))
    assert (await shop.reserve(sku, "holder")).outcome == RESERVED
    await shop.written((await shop.reserve(sku, "holder")).order_no)
    await shop.lose(sku)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await add(shop, sku, 2, addition_id="while-lost")
    assert reason_of(caught.value) == "SALE_NOT_LOADED"
    sale = await shop.rebuild(sku)
    assert (sale.terms.total_units, sale.remaining_units) == (3, 2)
    assert not (await add(shop, sku, 2, addition_id="while-lost")).added
    assert await shop.stock(sku) == 2


async def test_units_are_added_to_a_full_redis(shop: DamagedShop) -> None:
    """It sells nothing then, but is as far as the database when it sells again."""
    sku = await shop.create(terms_of(1))
    await shop.redis.config_set("maxmemory-policy", "noeviction")
    await shop.redis.config_set("maxmemory", "1mb")
    try:
        await add(shop, sku, 2)
        assert await shop.stock(sku) == 3
    finally:
        await shop.redis.config_set("maxmemory", "0")


async def test_title_and_price_change_before_the_start_only(shop: DamagedShop) -> None:
    """In both stores; after the start they are refused by name, and nothing else changes either."""
    sku = await shop.create(sale_terms(starts_in_s=1_800))
    price = sale_pb2.Money(currency="EUR", minor_units=5)
    request = inventory_pb2.UpdateSaleRequest(sku=sku, title="", unit_price=price)
    for _ in range(2):
        sale = await update(shop, request)
        assert (sale.terms.title, sale.terms.unit_price) == ("", price)
    assert (await record_of(shop, sku)).terms.unit_price == price
    started = await update(
        shop, inventory_pb2.UpdateSaleRequest(sku=sku, start_time=moment(-1), unit_price=price)
    )
    request = inventory_pb2.UpdateSaleRequest(sku=sku, title="x", state=PAUSED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(shop, request)
    assert fields_of(caught) == ["title"]
    now = (await shop.inventory.GetSale(inventory_pb2.GetSaleRequest(sku=sku))).sale
    assert now == started


async def test_price_stands_while_orders_are_on_their_way(shop: DamagedShop) -> None:
    """A unit was sold and the start moved away since: the buyer keeps the price that they saw."""
    sku = await shop.create(terms_of(3))
    await shop.redis.hset(users_key(sku), "buyer", "0" * 26 + " 1 r")
    await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, start_time=moment(1_800)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, title="x"))
    assert fields_of(caught) == ["title"]


async def test_operators_at_once_end_in_one_state_everywhere(shop: DamagedShop) -> None:
    """Many changes of one sale race: Redis and the record agree, and closed is closed."""
    sku = await shop.create(terms_of(3))
    states = [PAUSED, OPEN] * 10
    await asyncio.gather(
        *(update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=one)) for one in states),
        *(
            update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, end_time=moment(3_600 + n)))
            for n in range(5)
        ),
        *(add(shop, sku, 1) for _ in range(5)),
        return_exceptions=True,
    )
    closed = await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=CLOSED))
    record = await record_of(shop, sku)
    assert record.state == closed.state == CLOSED
    assert record.terms.end_time == closed.terms.end_time
    assert record.terms.total_units == closed.terms.total_units
    assert not (await sync(shop, sku)).changed


async def test_last_word_of_operators_stands_after_redis_lost_changes(shop: DamagedShop) -> None:
    """The record is ahead of a Redis that lost its tail: what is set then gets on record."""
    sku = await shop.create(terms_of(3))
    for state in (PAUSED, OPEN, PAUSED, OPEN):
        await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=state))
    await shop.redis.hset(sale_key(sku), mapping={"revision": 0, "state": "open"})
    await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=CLOSED))
    record = await record_of(shop, sku)
    assert record.state == CLOSED
    assert record.revision > 4
    assert not (await sync(shop, sku)).changed


async def test_reconciling_restores_what_redis_has_lost_and_records_what_it_has(
    shop: DamagedShop,
) -> None:
    """A pause that Redis lost is in force again; one that the record lacks gets there."""
    lost, ahead, same = [await shop.create(terms_of(3)) for _ in range(3)]
    for sku in (lost, ahead, same):
        await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=PAUSED))
    await shop.redis.hset(sale_key(lost), mapping={"revision": 0, "state": "open"})
    await shop.redis.hset(sale_key(ahead), mapping={"revision": 2, "state": "closed"})
    assert (await sync(shop, lost)).sale.state == PAUSED
    assert (await sync(shop, ahead)).sale.state == CLOSED
    assert (await record_of(shop, ahead)).state == CLOSED
    # The same number for another state: one was lost, another was set, and its process died.
    await shop.redis.hset(sale_key(same), mapping={"state": "closed"})
    assert (await sync(shop, same)).sale.state == CLOSED
    assert (await record_of(shop, same)).state == CLOSED


async def test_what_agrees_is_synced_without_a_write(shop: DamagedShop) -> None:
    """A round of the reconciler that finds nothing changes nothing."""
    sku = await shop.create(terms_of(3))
    await add(shop, sku, 1)
    await update(shop, inventory_pb2.UpdateSaleRequest(sku=sku, state=PAUSED))
    await shop.redis.config_resetstat()
    assert not (await sync(shop, sku)).changed
    ran = (await shop.redis.info("commandstats")).keys()
    assert not ran & {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_hset", "cmdstat_publish"}
