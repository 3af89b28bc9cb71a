"""How old the gateway says that an answer is."""

import asyncio

from google.protobuf.duration_pb2 import Duration

from gateway.ages import older
from seckill.v1 import gateway_pb2, inventory_pb2, order_pb2
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig

ORDER_NO = "0" * 26


async def poll(rig: GatewayRig) -> gateway_pb2.GatewayServiceGetOrderResponse:
    """Ask for the order as its owner."""
    request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=ORDER_NO)
    return await rig.stub.GetOrder(request, metadata=rig.identity("owner"), timeout=CALL_S)


async def look(rig: GatewayRig, sku: str) -> gateway_pb2.GatewayServiceGetSaleResponse:
    """Ask for a sale."""
    return await rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)


def test_an_age_grows_and_is_rounded_up() -> None:
    """So that it stays an upper bound."""
    assert older(Duration(seconds=1, nanos=5), 0.25).ToNanoseconds() == 1_250_000_005
    assert older(Duration(), 1e-12).ToNanoseconds() == 1


async def test_an_order_told_by_a_replica_says_how_old_it_is(rig: GatewayRig) -> None:
    """As the order service has it, and the time that its answer took; else it has no age."""
    orders = rig.services.orders
    orders.orders[ORDER_NO] = order_pb2.Order(order_no=ORDER_NO, user_id="owner")
    answer = await poll(rig)
    assert answer.order.order_no == ORDER_NO
    assert not answer.HasField("age")
    orders.age = Duration(nanos=400_000_000)
    answer = await poll(rig)
    assert answer.order.order_no == ORDER_NO
    assert answer.age.ToNanoseconds() > 400_000_000


async def test_a_sale_and_a_page_say_how_old_they_are(rig: GatewayRig) -> None:
    """By what inventory says of them, and by the time for which they were kept."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    inventory.age = Duration(seconds=3)
    first, second = await look(rig, sku), await look(rig, sku)
    assert first.sale.terms.sku == sku
    assert 3_000_000_000 < first.age.ToNanoseconds() < second.age.ToNanoseconds()
    page = await rig.stub.ListSales(
        gateway_pb2.GatewayServiceListSalesRequest(page_size=1), timeout=CALL_S
    )
    assert len(page.sales) == 1
    assert page.age.ToNanoseconds() > 3_000_000_000


async def test_nobody_is_refused_by_what_a_replica_has_told(rig: GatewayRig) -> None:
    """A sale that was restocked sells, though a replica still has it sold out."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    await rig.token(sku, "first")
    inventory.age = Duration(seconds=1)
    inventory.sales[sku].sold_out = True
    try:
        assert (await look(rig, sku)).sale.sold_out
    finally:
        inventory.sales[sku].sold_out = False
    async with asyncio.timeout(CALL_S):
        bought = await rig.buy(sku, "second")
    assert bought.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED
