"""The text of a hold: the scripts and inventory_svc/stock/hold.py agree about each word of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from inventory_svc.keys import users_key
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.hold import format_hold, parse_hold
from inventory_svc.stock.holds import HoldsReader
from seckill.errors import SeckillError
from seckill.v1 import inventory_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit, attempt

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
ALREADY_PURCHASED = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
ORDER_NO = "01JD0Z0000AAAAAAAAAAAAAAAA"
# Whatever a contract allows and a pattern of Lua might take for something else.
REQUEST_IDS = ["-", "-1", "1", "%d+", "r" * 64, "a-b_c.d~!", "^$", "%", "0"]


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[StockKit]:
    """Stock on the shared Valkey."""
    kit = StockKit(redis_url)
    yield kit
    await kit.close()


async def hold_of(kit: StockKit, sku: str, user_id: str) -> inventory_pb2.Hold:
    """The hold of a buyer, as it is read from Redis."""
    text: Any = await kit.redis.hget(users_key(sku), user_id)
    return parse_hold(user_id.encode(), text)


@pytest.mark.parametrize("request_id", REQUEST_IDS)
async def test_what_the_scripts_write_is_parsed(kit: StockKit, request_id: str) -> None:
    """reserve.lua writes what format_hold makes, and release.lua marks it as released."""
    sku = await kit.load(sale_terms(units=100, limit=12))
    item = attempt(request_id=request_id, quantity=12)
    ((_, order_no),) = await kit.reserve(sku, item)
    expected = inventory_pb2.Hold(
        order_no=order_no, user_id=item.user_id, request_id=request_id, quantity=12
    )
    assert await hold_of(kit, sku, item.user_id) == expected
    text = format_hold(order_no, quantity=12, request_id=request_id)
    assert await kit.redis.hget(users_key(sku), item.user_id) == text.encode()
    assert await kit.release(sku, (order_no, item.user_id)) == [12]
    expected.released = True
    assert await hold_of(kit, sku, item.user_id) == expected
    text = format_hold(order_no, quantity=12, request_id=request_id, released=True)
    assert await kit.redis.hget(users_key(sku), item.user_id) == text.encode()


@pytest.mark.parametrize("request_id", REQUEST_IDS)
async def test_what_is_formatted_is_what_the_scripts_read(kit: StockKit, request_id: str) -> None:
    """Holds that a rebuild brings, or a repair writes, answer their buyers and can be released."""
    terms = sale_terms(units=100, rebuy_allowed=False)
    live, released = (attempt(request_id=request_id, quantity=3) for _ in range(2))
    holds = {
        item.user_id: format_hold(
            ORDER_NO, quantity=3, request_id=request_id, released=item is released
        )
        for item in (live, released)
    }
    staged = await kit.loader.stage(terms.sku, holds.items(), epoch=1)
    await kit.loader.load(
        terms.sku, to_fields(terms, now_ms=0), epoch=1, units=97, staged=staged, timeout_s=TIMEOUT_S
    )
    answers = await kit.reserve(
        terms.sku,
        *(live, attempt(live.user_id, request_id="another")),
        *(released, attempt(released.user_id, request_id="another")),
    )
    assert answers == [
        (RESERVED, ORDER_NO),
        (ALREADY_PURCHASED, ORDER_NO),
        (RESERVED, ORDER_NO),
        (inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED, ""),
    ]
    assert await kit.release(terms.sku, (ORDER_NO, live.user_id)) == [3]
    written = await kit.loader.repair(
        inventory_pb2.RepairHoldsRequest(
            sku=terms.sku,
            epoch=1,
            missing=[
                inventory_pb2.Hold(
                    order_no=ORDER_NO, user_id="buyer", request_id=request_id, quantity=2
                )
            ],
        ),
        timeout_s=TIMEOUT_S,
    )
    assert (list(written.order_nos), written.stock_change_units) == ([ORDER_NO], -2)
    assert (await hold_of(kit, terms.sku, "buyer")).quantity == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        ORDER_NO.encode(),
        f"{ORDER_NO} 1".encode(),
        f"{ORDER_NO} one request".encode(),
        f"{ORDER_NO} +1 request".encode(),
        f"{ORDER_NO} 1 request more".encode(),
        f"{ORDER_NO}  1 request".encode(),
        f"--{ORDER_NO} 1 request".encode(),
        f"{ORDER_NO} 99999999999 request".encode(),
        f"{ORDER_NO} 1 \xff".encode("latin-1"),
        f"{ORDER_NO} 1 request\n".encode(),
    ],
)
async def test_anything_else_is_no_hold(kit: StockKit, text: bytes) -> None:
    """It is refused and never guessed, also when all holds of a sale are listed."""
    with pytest.raises(SeckillError, match="not what the scripts write"):
        parse_hold(b"buyer", text)
    sku = await kit.load()
    await kit.redis.hset(users_key(sku), new_id("buyer"), text)
    with pytest.raises(SeckillError, match="not what the scripts write"):
        async for _ in HoldsReader(kit.redis).read(sku):
            pass
