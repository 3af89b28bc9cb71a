"""The kill switch of a running mesh: enabled, kept over crashes, disabled, without a restart."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from seckill.client import Outcome
from seckill.status import reason_of
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
)
from tests.kits.actions import CALL_S, open_sale
from tests.kits.edge import AGENT, Edge
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import PRICE, sale_terms
from tests.kits.inventory import attempt
from tests.kits.late_buyers import (
    purchase_late,
    until_inventory_is_found,
    until_the_gateway_is_asked,
    without_the_gateway,
)
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

HALTED = (400, "KILL_SWITCH")


@pytest.fixture(scope="module")
def own(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge whose agent is killed."""
    with Edge(mesh.settings, directory=tmp_path_factory.mktemp("halted")) as running:
        yield running


async def set_kill_switch(mesh: Mesh, *, on: bool) -> None:
    """Set the switch as an operator does."""
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).SetKillSwitch(
            inventory_pb2.SetKillSwitchRequest(on=on, reason="a test"), timeout=CALL_S
        )


@pytest.fixture
async def enabled(mesh: Mesh) -> AsyncIterator[None]:
    """The switch, enabled; disabled after the test, as other tests use the mesh too."""
    await set_kill_switch(mesh, on=True)
    yield
    await set_kill_switch(mesh, on=False)


async def until_halted(edge: Edge, mesh: Mesh, sku: str) -> None:
    """Wait until Envoy itself refuses with the kill switch."""
    refused = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sku))
    assert (refused.status, refused.reason) == HALTED


async def test_it_stops_all_selling_in_every_form_and_orders_go_on(own: Edge, mesh: Mesh) -> None:
    """Envoy, the gateway and inventory refuse; a buyer with an order polls and pays it."""
    sku = await open_sale(mesh, sale_terms())
    owner = json_buyer(own, mesh)
    assert (await owner.buy(sku)).outcome is Outcome.RESERVED
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
        await owner.wait()
        assert (await owner.pay(PRICE)).state == order_pb2.ORDER_STATE_PAID
    finally:
        await set_kill_switch(mesh, on=False)
    await until_sold(own, mesh, sku)


async def until_sold(edge: Edge, mesh: Mesh, sku: str) -> None:
    """Wait until tokens are issued again, and buy a unit with one."""
    first = await eventually(
        lambda: json_buyer(edge, mesh).buy(sku), lambda seen: seen.failure is None
    )
    assert first.outcome is Outcome.RESERVED


@pytest.mark.usefixtures("enabled")
async def test_it_outlives_every_process_and_envoy_alone_forgets_it(own: Edge, mesh: Mesh) -> None:
    """Inventory, agent and gateway are killed in turn: one of the others always refuses."""
    sku = await open_sale(mesh, sale_terms())
    await until_halted(own, mesh, sku)
    # Without inventory Envoy asks the gateway, which keeps to the last state that it was told.
    await asyncio.to_thread(mesh.kill, "inventory")
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sku))
    refused = await purchase_late(own, mesh, sku)
    assert (refused.status, refused.reason) == HALTED
    await asyncio.to_thread(mesh.restart, "inventory")
    await until_halted(own, mesh, sku)
    # Without its agent Envoy's lease expires. A new gateway knows the switch before it is ready.
    own.kill(AGENT)
    await until_the_gateway_is_asked(own, lambda: purchase_late(own, mesh, sku))
    await asyncio.to_thread(mesh.kill, "gateway")
    await asyncio.to_thread(mesh.restart, "gateway")
    refused = await eventually(
        lambda: purchase_late(own, mesh, sku), lambda seen: seen.status != 503
    )
    assert (refused.status, refused.reason) == HALTED
    await asyncio.to_thread(own.start, AGENT)
    await until_halted(own, mesh, sku)
    # Before the next test sells anything.
    await until_inventory_is_found(own)
