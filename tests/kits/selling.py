"""A small sale from its first purchase to its last unit."""

from seckill.client import Outcome, SeckillClient, settled, visible
from seckill.v1 import order_pb2
from tests.kits.actions import open_sale
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

UNITS = 3


async def sell_out(mesh: Mesh) -> None:
    """Sell the units of a sale: bought, seen, paid; one given up comes back and is sold again."""
    sku = await open_sale(mesh, sale_terms(units=UNITS))
    async with SeckillClient(
        mesh.address("gateway"), credentials=mesh.call_credentials()
    ) as client:
        buyers = [client.acting_for(mesh.issuer.token(new_id("buyer"))) for _ in range(UNITS + 1)]
        bought = [await buyer.buy(sku) for buyer in buyers]
        assert [one.outcome for one in bought] == [Outcome.RESERVED] * UNITS + [Outcome.SOLD_OUT]
        for buyer, one in zip(buyers[1:UNITS], bought[1:UNITS], strict=True):
            await buyer.wait(one.order_no, visible)
            await buyer.pay(one.order_no, payment_id=new_id("payment"), amount=PRICE)
            order = await buyer.wait(one.order_no, settled)
            assert order.state == order_pb2.ORDER_STATE_PAID
        await buyers[0].wait(bought[0].order_no, visible)
        await buyers[0].cancel(bought[0].order_no)
        last = buyers[UNITS]

        async def try_again() -> Outcome:
            return (await last.buy(sku)).outcome

        await eventually(try_again, lambda outcome: outcome is Outcome.RESERVED)
