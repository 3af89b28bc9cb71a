"""Who gave an order up, and wants another one: the sale's policy, through all stages."""

import time
from collections.abc import AsyncIterator

import pytest

from deploy.local import Stores
from seckill.v1 import inventory_pb2, order_pb2
from tests.conftest import Topics
from tests.factories import new_id
from tests.upkeep_kit import RESERVED, DamagedShop, open_shop, terms_of
from tests.waiting import eventually

LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory stages, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_cancelled_buyer_buys_again_where_the_sale_allows_it(
    shop: DamagedShop, allowed: bool
) -> None:
    """Once his unit is back; the second order is live, and the first one stays cancelled."""
    sku, buyer = await shop.create(terms_of(5, rebuy_allowed=allowed)), new_id("buyer")
    first = (await shop.reserve(sku, buyer)).order_no
    await eventually(lambda: shop.order(first))
    await shop.cancel(first)
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    again = await shop.reserve(sku, buyer, request_id="second")
    if not allowed:
        assert again.outcome == LIMIT_EXCEEDED
        assert await shop.stock(sku) == 5
        return
    assert again.outcome == RESERVED
    second = await eventually(lambda: shop.order(again.order_no))
    assert second is not None
    assert second.state == order_pb2.ORDER_STATE_PENDING
    before = await shop.order(first)
    assert before is not None
    assert before.state == order_pb2.ORDER_STATE_CANCELLED
    assert await shop.stock(sku) == 4
