"""What a look at a sale tells of units that may come back."""

from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import gateway_pb2, sale_pb2
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig

UNPAID = sale_pb2.UnpaidUnits(units=3, last_expire_time=Timestamp(seconds=1_900_000_000))


async def look(rig: GatewayRig, sku: str) -> gateway_pb2.GatewayServiceGetSaleResponse:
    """Ask for a sale."""
    return await rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)


def sold_out(rig: GatewayRig) -> str:
    """Put a sale that has nothing left; returns its sku."""
    sku = rig.services.inventory.put(sale_terms(units=3), announce=False)
    sale = rig.services.inventory.sales[sku]
    sale.remaining_units, sale.sold_out = 0, True
    rig.services.inventory.announce(sku)
    return sku


async def test_a_sold_out_sale_tells_how_many_units_may_come_back(rig: GatewayRig) -> None:
    """And until when; of a sale that sells nobody asks the order service."""
    rig.services.orders.unpaid = UNPAID
    answer = await look(rig, sold_out(rig))
    assert answer.sale.sold_out
    assert answer.unpaid == UNPAID
    answer = await look(rig, rig.services.inventory.put(sale_terms()))
    assert not answer.HasField("unpaid")


async def test_a_sold_out_sale_is_told_without_the_order_service(rig: GatewayRig) -> None:
    """What may come back is then not known."""
    rig.services.orders.unpaid = None
    answer = await look(rig, sold_out(rig))
    assert answer.sale.sold_out
    assert not answer.HasField("unpaid")
