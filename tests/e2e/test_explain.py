"""`seckill explain` and `seckill top` against a mesh by address."""

import random
import re
import time

import grpc
import pytest

from devstack import Stores
from inventory_svc.keys import users_key
from inventory_svc.stock.hold import format_hold
from seckill.order_no import make_order_nos
from seckill.status import reason_of
from seckill.v1 import (
    inventory_pb2,
    order_admin_pb2,
    order_admin_pb2_grpc,
    order_pb2,
    rollback_pb2,
)
from tests.kits.actions import (
    CALL_S,
    Gateway,
    Inventory,
    Orders,
    Rollback,
    buy,
    open_sale,
    order_when_there,
)
from tests.kits.command import seckill
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.stores import client_of
from tests.kits.waiting import eventually

TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", re.MULTILINE)


async def bought(mesh: Mesh, gateway: Gateway, user: str, *, units: int = 3) -> tuple[str, str]:
    """Buy in a new sale; return the sku and the order's number once the order is there."""
    sku = await open_sale(mesh, sale_terms(units=units, rebuy_allowed=True))
    order_no = (await buy(gateway, mesh, sku=sku, user=user)).order_no
    await order_when_there(gateway, mesh, order_no=order_no, user=user)
    return sku, order_no


def kinds(text: str) -> list[str]:
    """Return what happened, in the order shown."""
    return [re.split(" {2,}", line)[2] for line in text.splitlines() if TIME.match(line)]


async def test_an_orders_story_is_told_from_all_stores_in_order_of_time(
    mesh: Mesh, gateway: Gateway
) -> None:
    """From the hold in Redis to the payment, with time and zone; a user id in markup is text."""
    user = f"[/{new_id('x')}]"
    sku, order_no = await bought(mesh, gateway, user)
    pending = seckill(mesh, "explain", order_no)
    assert "in the delay set" in pending
    assert "to be paid until" in pending
    seckill(mesh, "order", "pay", order_no)
    told = seckill(mesh, "explain", order_no)
    times = TIME.findall(told)
    assert times == sorted(times)
    for store in ("redis", "postgres"):
        assert store in told
    shown = kinds(told)
    assert shown[0] == "attempt decided"
    assert shown.index("order written") < shown.index("payment")
    assert "ledger: paid" in shown
    assert "operator took 990 minor units of CNY" in told
    assert f"of {user}, request id" in told
    # Of this order alone, whatever else the buyer has.
    assert (await buy(gateway, mesh, sku=sku, user=new_id("other"))).order_no not in told


async def test_a_buyers_story_names_each_order(
    mesh: Mesh, gateway: Gateway, orders: Orders
) -> None:
    """One that was given up and came back, and the one bought after it."""
    user = new_id("buyer")
    sku, first = await bought(mesh, gateway, user)
    await orders.CancelOrder(order_pb2.CancelOrderRequest(order_no=first), timeout=CALL_S)

    async def again() -> str:
        return (await buy(gateway, mesh, sku=sku, user=user)).order_no

    second = await eventually(again, lambda number: number not in ("", first))
    await order_when_there(gateway, mesh, order_no=second, user=user)
    told = seckill(mesh, "explain", user)
    assert first in told
    assert second in told
    shown = kinds(told)
    for kind in ("held before", "held", "ended", "to be restored", "ledger: restored"):
        assert kind in shown
    assert "given up by the buyer" in told


async def test_a_hold_without_an_order_is_found_by_its_number(
    mesh: Mesh, prepared_stores: Stores
) -> None:
    """As when Kafka has lost the event: the database does not know it, Redis still does."""
    sku, user = await open_sale(mesh, sale_terms()), new_id("buyer")
    (number,) = make_order_nos([user], now_s=time.time(), rng=random.Random())
    client = client_of(prepared_stores.redis_url)
    await client.hset(users_key(sku), user, format_hold(number, quantity=1, request_id="r1"))
    await client.aclose()
    assert kinds(seckill(mesh, "explain", number)) == ["attempt decided", "held"]


async def test_what_nobody_knows_is_said(mesh: Mesh) -> None:
    """With exit status 1; text from outside is text."""
    assert "nothing is on record of [red]x" in seckill(mesh, "explain", "[red]x", fails=True)


async def test_only_operators_are_told(mesh: Mesh) -> None:
    """A buyer's own token is none of an operator."""
    async with mesh.channel("order") as channel:
        stub = order_admin_pb2_grpc.OrderAdminServiceStub(channel)
        for metadata, reason in ((mesh.identity("alice"), "NOT_ALLOWED"), ((), "IDENTITY_MISSING")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ExplainOrders(
                    order_admin_pb2.ExplainOrdersRequest(user_id="alice"),
                    metadata=metadata,
                    timeout=CALL_S,
                )
            assert reason_of(caught.value) == reason


async def test_bad_fields_are_named(mesh: Mesh, inventory: Inventory, rollback: Rollback) -> None:
    """Of all three services."""
    with pytest.raises(grpc.aio.AioRpcError, match="user_id"):
        await inventory.ExplainHolds(inventory_pb2.ExplainHoldsRequest(user_id=" "), timeout=CALL_S)
    with pytest.raises(grpc.aio.AioRpcError, match=r"order_nos\[0\]"):
        await rollback.ExplainDelays(
            rollback_pb2.ExplainDelaysRequest(order_nos=["x"]), timeout=CALL_S
        )
    operator = (("authorization", f"Bearer {mesh.issuer.token('olga', roles=['operator'])}"),)
    async with mesh.channel("order") as channel:
        stub = order_admin_pb2_grpc.OrderAdminServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="order_no"):
            await stub.ExplainOrders(
                order_admin_pb2.ExplainOrdersRequest(), metadata=operator, timeout=CALL_S
            )


async def test_top_shows_a_sale(mesh: Mesh, gateway: Gateway) -> None:
    """By address, with the metrics that it is given; without a terminal, one picture."""
    user = new_id("buyer")
    sku, _ = await bought(mesh, gateway, user, units=1)
    metrics = [
        word
        for name in ("gateway", "inventory", "order", "rollback")
        for word in ("--metrics", f"127.0.0.1:{mesh.ports[name].metrics}")
    ]
    seen = seckill(mesh, "top", sku, *metrics)
    assert f"{sku} · sold out" in seen
    assert "0 of 1" in seen
    assert "reserved" in seen
    assert "not read" not in seen
    assert "NOT_FOUND" in seckill(mesh, "top", "no-such-sale", fails=True)
