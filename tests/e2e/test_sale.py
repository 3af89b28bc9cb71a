"""Whole sales through the mesh, judged by what the stores hold and what buyers were told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest

from seckill.client import Outcome
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    order_pb2,
)
from seckill_cli.demo.crowd import Crowd, connect
from seckill_cli.demo.scenario import Answer, Scenario, draw_crowd
from seckill_cli.demo.verdict import Verdict, judge, settle
from tests.kits.actions import (
    CALL_S,
    Gateway,
    Orders,
    buy,
    buyer_at,
    open_sale,
    purchase_token,
)
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

pytestmark = [pytest.mark.both_fronts, pytest.mark.secure]


async def play(
    mesh: Mesh,
    scenario: Scenario,
    *,
    during: Callable[[Crowd], Coroutine[Any, Any, None]] | None = None,
    buckets: int = 1,
) -> tuple[Verdict, Crowd]:
    """Run the demo's scenario against the mesh, and `during` beside it."""
    terms = sale_terms(units=scenario.stock, payment_window_s=scenario.payment_window_s)
    terms.buckets = buckets
    sku = await open_sale(mesh, terms)
    async with connect(mesh.address("gateway"), mesh.link_tls) as clients:
        crowd = Crowd(
            clients,
            identity_of=mesh.issuer.token,
            scenario=scenario,
            sku=sku,
            price=PRICE,
            notes=draw_crowd(scenario, sku),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.arrive())
            if during is not None:
                group.create_task(during(crowd))
        await crowd.wait_for_units(until_paid=scenario.stock, timeout_s=90)
        totals = await settle(mesh.stores, sku, timeout_s=60)
    for answer in (Answer.REFUSED, Answer.UNANSWERED):
        assert crowd.tally.by_answer[answer] == 0, crowd.tally.errors
    return judge(totals, stock=scenario.stock, notes=crowd.notes), crowd


async def test_a_crowd_gets_exactly_the_stock_and_unpaid_units_find_late_buyers(mesh: Mesh) -> None:
    """Late buyers get the units of the 40 % who do not pay; nothing is oversold or lost."""
    scenario = Scenario(buyers=1500, stock=40, seconds=1.5, payment_window_s=2.0)
    verdict, crowd = await play(mesh, scenario)
    assert verdict == Verdict(oversold=0, lost=0, unaccounted=0)
    assert crowd.tally.paid == 40
    assert crowd.tally.by_answer[Answer.RESERVED] > 40
    assert crowd.tally.by_answer[Answer.ALREADY_PURCHASED] > 0


async def test_a_crowd_gets_exactly_the_stock_of_a_sale_in_buckets(mesh: Mesh) -> None:
    """Whoever's home they came back to, units of those who do not pay find late buyers."""
    scenario = Scenario(buyers=800, stock=30, seconds=1.5, payment_window_s=2.0)
    verdict, crowd = await play(mesh, scenario, buckets=4)
    assert verdict == Verdict(oversold=0, lost=0, unaccounted=0)
    assert crowd.tally.paid == 30
    assert crowd.tally.by_answer[Answer.RESERVED] > 30


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gateway", "inventory", "order", "rollback"])
async def test_killing_a_service_during_the_sale_loses_nothing(mesh: Mesh, victim: str) -> None:
    """Nothing is oversold, lost or unaccounted for although a service dies during the rush."""

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


async def test_the_same_request_gets_the_same_answer_and_another_one_learns_of_the_order(
    mesh: Mesh, gateway: Gateway
) -> None:
    """A retry is RESERVED with the same number, and a new attempt ALREADY_PURCHASED."""
    sku = await open_sale(mesh, sale_terms(units=1))
    user, request_id = new_id("buyer"), new_id("request")
    first = await buy(gateway, mesh, sku=sku, user=user, request_id=request_id)
    retry = await buy(gateway, mesh, sku=sku, user=user, request_id=request_id)
    again = await buy(gateway, mesh, sku=sku, user=user)
    other = await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
    assert first.outcome is retry.outcome is Outcome.RESERVED
    assert first.order_no == retry.order_no == again.order_no
    assert again.outcome is Outcome.ALREADY_PURCHASED
    assert other.outcome is Outcome.SOLD_OUT
    assert not other.order_no


async def test_fifty_attempts_of_one_buyer_are_one_order(mesh: Mesh, gateway: Gateway) -> None:
    """One of fifty attempts at once is RESERVED, and all answers have its number."""
    sku = await open_sale(mesh, sale_terms(units=5))
    user = new_id("buyer")
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    calls = [
        gateway.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku, purchase_token=token, request_id=f"request-{number}", quantity=1
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
    """Of two buyers one pays and one cancels; a third gets the unit of the second."""
    sku = await open_sale(mesh, sale_terms(units=2))
    payer = buyer_at(gateway, mesh, new_id("buyer"))
    quitter = buyer_at(gateway, mesh, new_id("buyer"))
    for buyer in (payer, quitter):
        assert (await buyer.buy(sku)).outcome is Outcome.RESERVED
        order = await buyer.wait()
        assert (order.state, order.amount) == (order_pb2.ORDER_STATE_PENDING, PRICE)
    for _ in range(2):
        assert (await payer.pay(PRICE)).state == order_pb2.ORDER_STATE_PAID
    assert (await quitter.cancel()).state == order_pb2.ORDER_STATE_CANCELLED

    async def third_buyer() -> bool:
        return (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.RESERVED

    await eventually(third_buyer)

    async def totals() -> order_pb2.GetSaleTotalsResponse:
        return await orders.GetSaleTotals(order_pb2.GetSaleTotalsRequest(sku=sku), timeout=CALL_S)

    seen = await eventually(totals, lambda found: found.pending_units == 1)
    assert (seen.paid_units, seen.cancelled_units, seen.restored_units) == (1, 1, 1)
    assert seen.sold_units == 2


async def test_a_winner_is_known_to_every_replica_after_sold_out(
    mesh: Mesh, gateway: Gateway
) -> None:
    """A gateway that never saw the purchase answers the winner's retry with the order number."""
    sku = await open_sale(mesh, sale_terms(units=1))
    winner, request_id = new_id("buyer"), new_id("request")
    won = await buy(gateway, mesh, sku=sku, user=winner, request_id=request_id)
    assert mesh.terminate("gateway") == 0
    mesh.restart("gateway")
    async with mesh.channel("gateway") as channel:
        fresh = gateway_pb2_grpc.GatewayServiceStub(channel)
        retry = await buy(fresh, mesh, sku=sku, user=winner, request_id=request_id)
        assert (retry.outcome, retry.order_no) == (Outcome.RESERVED, won.order_no)
        other = await buy(fresh, mesh, sku=sku, user=new_id("buyer"))
    assert other.outcome is Outcome.SOLD_OUT
