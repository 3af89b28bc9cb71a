"""A whole sale through the mesh, judged by what the stores and the buyers say."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest

from seckill.demo.crowd import Crowd, connect
from seckill.demo.scenario import Answer, Buyer, Scenario, draw_arrivals
from seckill.demo.verdict import Verdict, judge, settle
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    order_pb2,
)
from tests.e2e.actions import (
    CALL_S,
    Gateway,
    Orders,
    buy,
    open_sale,
    order_when_there,
    purchase_token,
)
from tests.factories import PRICE, new_id, sale_terms
from tests.mesh import Mesh
from tests.waiting import eventually


async def play(
    mesh: Mesh,
    scenario: Scenario,
    *,
    during: Callable[[Crowd], Coroutine[Any, Any, None]] | None = None,
) -> tuple[Verdict, Crowd]:
    """Run the demo's scenario against the mesh, and `during` it something else."""
    sku = await open_sale(
        mesh, sale_terms(units=scenario.stock, payment_window_s=scenario.payment_window_s)
    )
    buyers = [
        Buyer(
            user_id=f"{sku}-{number}",
            identity=mesh.identity(f"{sku}-{number}"),
            arrives_s=arrives_s,
            presses_twice=twice,
            pays=False,
        )
        for number, (arrives_s, twice) in enumerate(draw_arrivals(scenario))
    ]
    async with connect(mesh.address("gateway")) as stubs:
        crowd = Crowd(stubs, scenario=scenario, sku=sku, price=PRICE, buyers=buyers)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.arrive())
            if during is not None:
                group.create_task(during(crowd))
        await crowd.wait_for_units(until_paid=scenario.stock, timeout_s=90)
        books = await settle(mesh.stores, sku, timeout_s=60)
    return judge(books, stock=scenario.stock, buyers=buyers), crowd


async def test_a_crowd_gets_exactly_the_stock_and_unpaid_units_find_late_buyers(mesh: Mesh) -> None:
    """Sixty percent pay, the rest runs out, late buyers take it: nothing oversold, lost or open."""
    scenario = Scenario(buyers=1500, stock=40, seconds=1.5, payment_window_s=2.0)
    verdict, crowd = await play(mesh, scenario)
    assert verdict == Verdict(oversold=0, lost=0, unaccounted=0)
    assert crowd.tally.paid == 40
    assert crowd.tally.by_answer[Answer.RESERVED] > 40
    assert crowd.tally.by_answer[Answer.ALREADY_PURCHASED] > 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gateway", "inventory", "order", "rollback"])
async def test_killing_a_service_during_the_sale_loses_nothing(mesh: Mesh, victim: str) -> None:
    """Any of the four is killed while the crowd arrives and started again: still 0 / 0 / 0."""

    async def kill_and_restart(crowd: Crowd) -> None:
        async def attempts() -> int:
            return crowd.tally.attempts

        await eventually(attempts, lambda count: count > 100)
        await asyncio.to_thread(mesh.kill, victim)
        await asyncio.to_thread(mesh.restart, victim)

    scenario = Scenario(buyers=800, stock=30, seconds=1.5, payment_window_s=3.0)
    verdict, crowd = await play(mesh, scenario, during=kill_and_restart)
    assert verdict == Verdict(oversold=0, lost=0, unaccounted=0)
    assert crowd.tally.paid == 30


async def test_the_same_request_gets_the_same_answer_and_a_second_press_learns_of_the_order(
    mesh: Mesh, gateway: Gateway
) -> None:
    """A retry is answered RESERVED with the same number, another press ALREADY_PURCHASED."""
    sku = await open_sale(mesh, sale_terms(units=1))
    user, request_id = new_id("buyer"), new_id("request")
    first = await buy(gateway, mesh, sku=sku, user=user, request_id=request_id)
    retry = await buy(gateway, mesh, sku=sku, user=user, request_id=request_id)
    again = await buy(gateway, mesh, sku=sku, user=user)
    other = await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
    assert first.outcome == retry.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED
    assert first.order_no == retry.order_no == again.order_no
    assert again.outcome == inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
    assert other.outcome == inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
    assert not other.order_no


async def test_fifty_presses_of_one_buyer_are_one_order(mesh: Mesh, gateway: Gateway) -> None:
    """All at once, with one token: one reservation, all told the same number."""
    sku = await open_sale(mesh, sale_terms(units=5))
    user = new_id("buyer")
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    calls = [
        gateway.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku, purchase_token=token, request_id=f"press-{number}", quantity=1
            ),
            metadata=mesh.identity(user),
            timeout=CALL_S,
        )
        for number in range(50)
    ]
    settled = await asyncio.gather(*calls, return_exceptions=True)
    answers = [answer for answer in settled if isinstance(answer, gateway_pb2.PurchaseResponse)]
    refused = [error for error in settled if isinstance(error, grpc.aio.AioRpcError)]
    assert all(error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED for error in refused)
    assert len(answers) + len(refused) == 50
    assert len({answer.order_no for answer in answers}) == 1
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(inventory_pb2.PURCHASE_OUTCOME_RESERVED) == 1


async def test_an_order_is_paid_once_and_a_cancelled_one_gives_its_unit_back(
    mesh: Mesh,
    gateway: Gateway,
    orders: Orders,
) -> None:
    """One buyer pays, one cancels; the third gets the unit of the second."""
    sku = await open_sale(mesh, sale_terms(units=2))
    payer, quitter = new_id("buyer"), new_id("buyer")
    paid = await buy(gateway, mesh, sku=sku, user=payer)
    quit_ = await buy(gateway, mesh, sku=sku, user=quitter)
    order = await order_when_there(gateway, mesh, order_no=paid.order_no, user=payer)
    assert order.state == order_pb2.ORDER_STATE_PENDING
    assert order.amount == PRICE
    request = gateway_pb2.GatewayServicePayOrderRequest(
        order_no=paid.order_no, payment_id=new_id("payment"), amount=PRICE
    )
    for _ in range(2):
        answer = await gateway.PayOrder(request, metadata=mesh.identity(payer), timeout=CALL_S)
        assert answer.order.state == order_pb2.ORDER_STATE_PAID
    await order_when_there(gateway, mesh, order_no=quit_.order_no, user=quitter)
    cancelled = await gateway.CancelOrder(
        gateway_pb2.GatewayServiceCancelOrderRequest(order_no=quit_.order_no),
        metadata=mesh.identity(quitter),
        timeout=CALL_S,
    )
    assert cancelled.order.state == order_pb2.ORDER_STATE_CANCELLED

    async def third_buyer() -> int:
        answer = await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
        return int(answer.outcome)

    await eventually(third_buyer, lambda told: told == inventory_pb2.PURCHASE_OUTCOME_RESERVED)

    async def totals() -> order_pb2.GetSaleTotalsResponse:
        return await orders.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku), timeout=CALL_S)

    seen = await eventually(totals, lambda found: found.pending_units == 1)
    assert (seen.paid_units, seen.cancelled_units, seen.restored_units) == (1, 1, 1)
    assert seen.sold_units == 2


async def test_a_winner_is_known_to_every_replica_after_sold_out(
    mesh: Mesh, gateway: Gateway
) -> None:
    """A gateway that never saw the purchase still answers the winner's retry with his number."""
    sku = await open_sale(mesh, sale_terms(units=1))
    winner, request_id = new_id("buyer"), new_id("request")
    won = await buy(gateway, mesh, sku=sku, user=winner, request_id=request_id)
    assert mesh.terminate("gateway") == 0
    mesh.restart("gateway")
    async with mesh.channel("gateway") as channel:
        fresh = gateway_pb2_grpc.GatewayServiceStub(channel)
        assert await buy(fresh, mesh, sku=sku, user=winner, request_id=request_id) == won
        other = await buy(fresh, mesh, sku=sku, user=new_id("buyer"))
    assert other.outcome == inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
