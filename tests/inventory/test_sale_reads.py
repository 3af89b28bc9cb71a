"""What reading a sale says when Redis answers with an error."""

import pytest
import redis.asyncio

from devstack import ValkeyServer
from inventory_svc.keys import stock_key
from inventory_svc.sales.sales import Sales
from seckill.errors import DependencyUnavailable
from tests.kits.factories import new_id
from tests.kits.inventory import StockKit


async def test_a_server_that_refuses_to_answer_has_lost_nothing(server: ValkeyServer) -> None:
    """Not told as a lost sale, which would be rebuilt; a key of the wrong type is."""
    kit = StockKit(server.url)
    sku, user = await kit.load(), new_id("user")
    await kit.redis.acl_setuser(
        user, enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-get"]
    )
    limited = redis.asyncio.Redis.from_url(server.url, username=user, password="any")
    with pytest.raises(DependencyUnavailable):
        await Sales(limited).read([sku])
    await kit.redis.delete(stock_key(sku))
    await kit.redis.rpush(stock_key(sku), "1")
    assert not (await kit.sales.read([sku]))[0].loaded
    await limited.aclose()
    await kit.close()
