"""Who gave an order up, and wants another one: the sale's policy, through all services."""

import time
from collections.abc import AsyncIterator

import grpc
import pytest

from devstack import Stores
from inventory_svc.keys import past_key, stock_key
from seckill.v1 import inventory_pb2, order_pb2
from tests.kits.factories import new_id
from tests.kits.recovery import RESERVED, DamagedShop, open_shop, terms_of
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_cancelled_buyer_buys_again_where_the_sale_allows_it(
    shop: DamagedShop, allowed: bool
) -> None:
    """Once their unit is back; the second order is live, and the first one stays cancelled."""
    sku, buyer = await shop.create(terms_of(5, rebuy_allowed=allowed)), new_id("buyer")
    first = (await shop.reserve(sku, buyer)).order_no
    await shop.written(first)
    await shop.cancel(first)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    again = await shop.reserve(sku, buyer, request_id="second")
    if not allowed:
        assert again.outcome == LIMIT_EXCEEDED
        assert await shop.stock(sku) == 5
        return
    assert again.outcome == RESERVED
    second = await shop.written(again.order_no)
    assert second is not None
    assert second.state == order_pb2.ORDER_STATE_PENDING
    before = await shop.order(first)
    assert before is not None
    assert before.state == order_pb2.ORDER_STATE_CANCELLED
    assert await shop.stock(sku) == 4


@pytest.mark.parametrize("rebuilt", [False, True])
async def test_a_buyer_whom_the_database_rejected_may_try_again(
    shop: DamagedShop, rebuilt: bool
) -> None:
    """Rejected for want of a unit; once units are on sale again they get one, rebuilt or not."""
    sku, winner, buyer = await shop.create(terms_of(1)), new_id("winner"), new_id("buyer")
    first = (await shop.reserve(sku, winner)).order_no
    await shop.written(first)
    # Redis has a unit that the database does not have.
    await shop.redis.incr(stock_key(sku))
    rejected_no = (await shop.reserve(sku, buyer)).order_no

    async def rejected() -> bool:
        order = await shop.order(rejected_no)
        return order is not None and order.state == order_pb2.ORDER_STATE_REJECTED

    await eventually(rejected)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    await shop.redis.decr(stock_key(sku))
    await shop.cancel(first)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    if rebuilt:
        await shop.lose(sku)
        await shop.rebuild(sku)
    again = await shop.reserve(sku, buyer, request_id="second")
    assert again.outcome == RESERVED
    order = await shop.written(again.order_no)
    assert order.state == order_pb2.ORDER_STATE_PENDING
    # Repeats of both requests have the answers that they had; the winner gave theirs up.
    late = await shop.reserve(sku, buyer)
    assert (late.outcome, late.order_no) == (RESERVED, rejected_no)
    assert await shop.reserve(sku, buyer, request_id="second") == again
    assert (await shop.reserve(sku, winner, request_id="second")).outcome == LIMIT_EXCEEDED


async def test_late_repeat_gets_its_answer_after_a_rebuild(shop: DamagedShop) -> None:
    """The buyer has bought three times; each request names its order, also with its quantity."""
    sku, buyer = await shop.create(terms_of(5, rebuy_allowed=True, limit=2)), new_id("buyer")
    orders = []
    for request_id in ("one", "two", "three"):
        result = await shop.reserve(sku, buyer, request_id=request_id, quantity=2)
        orders.append((request_id, result.order_no))
        await shop.written(result.order_no)
        if request_id != "three":
            await shop.cancel(result.order_no)
            assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 2
    for _ in range(2):
        for request_id, order_no in orders:
            result = await shop.reserve(sku, buyer, request_id=request_id, quantity=2)
            assert (result.outcome, result.order_no) == (RESERVED, order_no)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await shop.reserve(sku, buyer, request_id=request_id, quantity=1)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "item.quantity" in (caught.value.details() or "")
        await shop.lose(sku)
        await shop.redis.delete(past_key(sku))
        await shop.rebuild(sku)
    assert await shop.stock(sku) == 3
    other = await shop.create(terms_of(5, limit=2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.reserve(other, buyer, request_id="three", quantity=2)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("sku: ")
