"""An operator archives an old sale: Redis forgets it, and the database tells of it as before."""

from redis.asyncio import Redis

from seckill.client import Outcome
from seckill.runtime.redis_client import servers_of
from seckill.v1 import gateway_pb2, order_pb2, order_pb2_grpc, sale_pb2
from tests.kits.actions import CALL_S, Gateway, buy, open_sale
from tests.kits.command import seckill
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.operator import authorization
from tests.kits.stores import client_of
from tests.kits.waiting import eventually


async def keys_of(client: "Redis", sku: str) -> list[bytes]:
    """Keys that name a sale."""
    return [
        key
        for server in await servers_of(client)
        async for key in server.scan_iter(match=f"*{sku}*", count=1_000)
    ]


async def test_only_a_sale_with_nothing_left_to_do_is_archived(
    mesh: Mesh, gateway: Gateway
) -> None:
    """Refused with the reason while it is open, then while an order is pending; then it is gone
    from Redis and from the list, its audit and its order's story are as before, repeating changes
    nothing, its buyers are told that it has ended, also by a gateway that never saw it, and a
    rebuild brings it back, closed.
    """
    sku = await open_sale(mesh, sale_terms())
    bought = await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
    assert isinstance(bought.order_no, str)
    refused = seckill(mesh, "sale", "archive", sku, fails=True)
    assert "it is on record as open" in refused
    seckill(mesh, "sale", "close", sku)
    refused = seckill(mesh, "sale", "archive", sku, fails=True)
    assert "1 orders are pending" in refused
    seckill(mesh, "order", "cancel", bought.order_no)
    await eventually(lambda: settled(mesh, sku))
    assert f"{sku}: archived" in seckill(mesh, "sale", "archive", sku)
    async with client_of(mesh.settings["SECKILL_REDIS_URL"]) as client:
        assert await keys_of(client, sku) == []
        assert not await client.sismember("seckill:skus", sku)
    assert sku not in seckill(mesh, "sale", "list")
    assert "PROVEN" in seckill(mesh, "audit", "--sku", sku)
    assert "cancelled" in seckill(mesh, "explain", bought.order_no)
    assert f"{sku}: was archived before" in seckill(mesh, "sale", "archive", sku)
    assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.ENDED
    mesh.terminate("gateway")
    mesh.restart("gateway")
    assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.ENDED
    shown = await gateway.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)
    assert shown.sale.state == sale_pb2.SALE_STATE_CLOSED
    assert "closed" in seckill(mesh, "sale", "rebuild", sku)
    assert sku in seckill(mesh, "sale", "list")
    assert f"{sku}: archived" in seckill(mesh, "sale", "archive", sku)


async def settled(mesh: Mesh, sku: str) -> bool:
    """Whether the units and events of a cancelled order have come where they belong."""
    async with mesh.channel("order") as channel:
        answer = await order_pb2_grpc.OrderServiceStub(channel).CheckSaleSettled(
            order_pb2.CheckSaleSettledRequest(sku=sku),
            metadata=authorization(mesh.issuer.token("olga", roles=["operator"])),
            timeout=CALL_S,
        )
    return not answer.reasons


async def test_nobody_but_an_operator_archives(mesh: Mesh) -> None:
    """An unknown sku is NOT_FOUND for an operator; without a token nothing is told."""
    assert "NOT_FOUND" in seckill(mesh, "sale", "archive", new_id("sku"), fails=True)
    said = seckill(mesh, "sale", "archive", new_id("sku"), "--token", "nobody", fails=True)
    assert "UNAUTHENTICATED" in said
