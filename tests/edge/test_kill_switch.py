"""The kill switch of a mesh that runs: thrown, survived, lifted, and nothing started for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from seckill.errors import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from tests.e2e.actions import CALL_S, open_sale
from tests.edge.buyer import JsonBuyer
from tests.edge.kit import AGENT, Edge
from tests.edge.late import (
    RESERVED,
    press,
    until_inventory_is_found,
    until_the_gateway_is_asked,
    without_the_gateway,
)
from tests.factories import PRICE, new_id, sale_terms
from tests.inventory_kit import attempt
from tests.mesh import Mesh
from tests.waiting import eventually

HALTED = (400, "KILL_SWITCH")


@pytest.fixture(scope="module")
def own(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose agent is killed."""
    with Edge(mesh.settings, directory=tmp_path_factory.mktemp("halted")) as running:
        yield running


async def set_kill_switch(mesh: Mesh, *, on: bool) -> None:
    """As an operator does."""
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).SetKillSwitch(
            inventory_pb2.SetKillSwitchRequest(on=on, reason="a test"), timeout=CALL_S
        )


@pytest.fixture
async def thrown(mesh: Mesh) -> AsyncIterator[None]:
    """Lifts it whatever becomes of the test: the mesh is not the test's own."""
    await set_kill_switch(mesh, on=True)
    yield
    await set_kill_switch(mesh, on=False)


async def until_halted(edge: Edge, mesh: Mesh, sku: str) -> None:
    """Envoy itself says so from now on."""
    refused = await without_the_gateway(edge, lambda: press(edge, mesh, sku))
    assert (refused.status, refused.reason) == HALTED


async def test_it_stops_all_selling_in_every_form_and_orders_go_on(own: Edge, mesh: Mesh) -> None:
    """Refused by Envoy, by the gateway, by inventory; who has an order polls and pays it."""
    sku = await open_sale(mesh, sale_terms())
    owner = JsonBuyer(own, mesh, new_id("buyer"))
    order_no = (await owner.press(sku)).json["orderNo"]
    await set_kill_switch(mesh, on=True)
    try:
        await until_halted(own, mesh, sku)
        token = await own.call("POST", f"/v1/sales/{sku}:issuePurchaseToken", {})
        assert (token.status, token.reason) == HALTED
        for channel in (own.channel(), mesh.channel("gateway")):
            async with channel:
                stub = gateway_pb2_grpc.GatewayServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.Purchase(gateway_pb2.PurchaseRequest(), timeout=CALL_S)
            assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason_of(error.value) == "KILL_SWITCH"
        async with mesh.channel("inventory") as channel:
            inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await inventory.Reserve(
                    inventory_pb2.ReserveRequest(sku=sku, item=attempt()), timeout=CALL_S
                )
            assert reason_of(error.value) == "KILL_SWITCH"
        assert (await own.call("GET", f"/v1/sales/{sku}")).status == 200
        await owner.order_when_there(order_no)
        amount = {"currency": PRICE.currency, "minorUnits": str(PRICE.minor_units)}
        paid = await own.call(
            "POST",
            f"/v1/orders/{order_no}:pay",
            {"payment_id": new_id("payment"), "amount": amount},
            headers=owner.headers,
        )
        assert paid.json["order"]["state"] == "ORDER_STATE_PAID"
    finally:
        await set_kill_switch(mesh, on=False)
    await until_sold(own, mesh, sku)


async def until_sold(edge: Edge, mesh: Mesh, sku: str) -> None:
    """Tokens are given again, and a unit is bought with one."""
    buyer = JsonBuyer(edge, mesh, new_id("buyer"))

    async def ask() -> int:
        path = f"/v1/sales/{sku}:issuePurchaseToken"
        return (await edge.call("POST", path, {}, headers=buyer.headers)).status

    await eventually(ask, lambda status: status == 200)
    assert (await buyer.press(sku)).json["outcome"] == RESERVED


@pytest.mark.usefixtures("thrown")
async def test_it_outlives_every_process_and_envoy_alone_forgets_it(own: Edge, mesh: Mesh) -> None:
    """Inventory, agent and gateway are killed in turn: somebody always refuses."""
    sku = await open_sale(mesh, sale_terms())
    await until_halted(own, mesh, sku)
    # Without inventory Envoy has nobody's word, and asks the gateway, which keeps to its last one.
    await asyncio.to_thread(mesh.kill, "inventory")
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sku))
    refused = await press(own, mesh, sku)
    assert (refused.status, refused.reason) == HALTED
    await asyncio.to_thread(mesh.restart, "inventory")
    await until_halted(own, mesh, sku)
    # Without its agent Envoy's lease runs out. A new gateway knows before it is ready.
    own.kill(AGENT)
    await until_the_gateway_is_asked(own, lambda: press(own, mesh, sku))
    await asyncio.to_thread(mesh.kill, "gateway")
    await asyncio.to_thread(mesh.restart, "gateway")
    refused = await eventually(lambda: press(own, mesh, sku), lambda seen: seen.status != 503)
    assert (refused.status, refused.reason) == HALTED
    await asyncio.to_thread(own.start, AGENT)
    await until_halted(own, mesh, sku)
    # Before the next test sells anything.
    await until_inventory_is_found(own)
