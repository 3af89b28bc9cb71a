"""The kill switch at the gateway, on either front, as inventory tells of it."""

import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from seckill.status import reason_of
from seckill.v1 import gateway_pb2, inventory_pb2, order_pb2
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.gateway import GatewayRig, details, failure, open_rig
from tests.kits.gateway_services import running_services
from tests.kits.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
ORDER_NO = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def answer_to(call: Awaitable[object]) -> str | None:
    """The reason of a refusal; None where there is none."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return None


async def test_purchases_and_tokens_are_refused_until_it_is_lifted(rig: GatewayRig) -> None:
    """FAILED_PRECONDITION with KILL_SWITCH, for a valid token too; inventory is not asked."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    token = await rig.token(sku, "buyer")
    inventory.set_kill_switch(on=True)
    await eventually(lambda: answer_to(rig.token(sku, "buyer")), lambda said: said is not None)
    for call in (rig.buy(sku, "buyer", token=token), rig.token(sku, "buyer")):
        refused = await failure(call)
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(refused) == "KILL_SWITCH"
        assert "RetryInfo" not in details(refused)
    assert inventory.batches == []
    inventory.set_kill_switch(on=False)
    await eventually(lambda: answer_to(rig.token(sku, "buyer")), lambda said: said is None)
    assert (await rig.buy(sku, "buyer")).outcome == RESERVED


async def test_everything_else_goes_on(rig: GatewayRig) -> None:
    """Sales are shown; an order is polled, watched, paid and cancelled."""
    inventory, orders = rig.services.inventory, rig.services.orders
    sku = inventory.put(sale_terms())
    orders.orders[ORDER_NO] = order_pb2.Order(order_no=ORDER_NO, user_id="owner")
    inventory.set_kill_switch(on=True)
    await eventually(lambda: answer_to(rig.token(sku, "owner")), lambda said: said is not None)
    stub, owner, types = rig.stub, rig.identity("owner"), gateway_pb2
    await stub.GetSale(types.GatewayServiceGetSaleRequest(sku=sku))
    await stub.ListSales(types.GatewayServiceListSalesRequest())
    await stub.GetOrder(types.GatewayServiceGetOrderRequest(order_no=ORDER_NO), metadata=owner)
    watch = types.GatewayServiceWatchOrderRequest(order_no=ORDER_NO)
    assert [answer async for answer in stub.WatchOrder(watch, metadata=owner)]
    await stub.PayOrder(
        types.GatewayServicePayOrderRequest(order_no=ORDER_NO, payment_id="p-1", amount=PRICE),
        metadata=owner,
    )
    await stub.CancelOrder(
        types.GatewayServiceCancelOrderRequest(order_no=ORDER_NO), metadata=owner
    )


async def test_a_gateway_that_has_lost_inventory_keeps_to_what_it_was_told(
    front: str, tmp_path: Path
) -> None:
    """On stays on, however long nothing is heard; inventory's word alone lifts it."""
    async with AsyncExitStack() as stack:
        # What the flags of sales mean for this long is nothing to the switch.
        rig = await open_rig(stack, tmp_path, front, gateway_sale_cache_ttl_s=0.001)
        terms = sale_terms()
        sku = rig.services.inventory.put(terms)
        rig.services.inventory.set_kill_switch(on=True)
        await eventually(lambda: answer_to(rig.token(sku, "b")), lambda said: said is not None)
        await rig.services.stop()

        async def flags_are_trusted() -> bool:
            return rig.gateway.sales.is_fresh(time.monotonic())

        await eventually(flags_are_trusted, lambda trusted: not trusted)
        assert await answer_to(rig.token(sku, "buyer")) == "KILL_SWITCH"
        services = await stack.enter_async_context(running_services(rig.services.port))
        services.inventory.put(terms)
        await eventually(lambda: answer_to(rig.token(sku, "b")), lambda said: said is None)
        assert (await rig.buy(sku, new_id("buyer"))).outcome == RESERVED
