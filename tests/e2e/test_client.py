"""`seckill.client` against the whole mesh."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from seckill.client import (
    Call,
    IdentityRejected,
    InvalidRequest,
    NotFound,
    Outcome,
    SeckillClient,
    StateConflict,
    SyncSeckillClient,
    settled,
    visible,
)
from seckill.v1 import order_pb2
from seckill_cli.demo.buyer import Buyer
from tests.kits.actions import open_sale
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.mesh import Mesh

pytestmark = pytest.mark.both_fronts


@pytest.fixture
async def client(mesh: Mesh) -> AsyncIterator[SeckillClient]:
    """A client without an identity of its own."""
    async with SeckillClient(
        mesh.address("gateway"), credentials=mesh.call_credentials()
    ) as opened:
        yield opened


async def test_a_unit_is_bought_seen_paid_and_the_next_one_cancelled(
    mesh: Mesh, client: SeckillClient
) -> None:
    """Outcomes are values; the order is waited for while another task pays it."""
    sku = await open_sale(mesh, sale_terms(units=2))
    first, second, third = (client.acting_for(mesh.issuer.token(new_id("b"))) for _ in range(3))
    bought = await first.buy(sku)
    assert bought.outcome is Outcome.RESERVED
    again = await first.buy(sku)
    assert (again.outcome, again.order_no) == (Outcome.ALREADY_PURCHASED, bought.order_no)
    same = await first.buy(sku, request_id=bought.request_id)
    assert same == bought
    other = await second.buy(sku)
    assert (await third.buy(sku)).outcome is Outcome.SOLD_OUT

    order = await first.wait(bought.order_no, visible)
    assert order.state == order_pb2.ORDER_STATE_PENDING
    waiting = asyncio.create_task(first.wait(bought.order_no, settled))
    paid = await first.pay(bought.order_no, payment_id=new_id("pay"), amount=PRICE)
    assert paid.state == (await waiting).state == order_pb2.ORDER_STATE_PAID
    with pytest.raises(StateConflict) as refused:
        await first.cancel(bought.order_no)
    assert refused.value.reason == "ORDER_STATE"

    await second.wait(other.order_no, visible)
    assert (await second.cancel(other.order_no)).state == order_pb2.ORDER_STATE_CANCELLED
    assert (await second.get_order(other.order_no)).order_no == other.order_no


async def test_sales_are_read_without_an_identity(mesh: Mesh, client: SeckillClient) -> None:
    """One by its sku, or all."""
    sku = await open_sale(mesh, sale_terms(units=7))
    assert (await client.sale(sku)).remaining_units == 7
    assert sku in {sale.terms.sku for sale in await client.sales()}
    with pytest.raises(NotFound) as unknown:
        await client.sale("no-such-sale")
    assert unknown.value.reason == "SALE_NOT_FOUND"
    with pytest.raises(IdentityRejected):
        await client.buy(sku)


async def test_a_request_that_is_wrong_is_not_repeated(mesh: Mesh, client: SeckillClient) -> None:
    """The error names the field."""
    sku = await open_sale(mesh, sale_terms(units=1))
    calls: list[Call] = []
    buyer = client.acting_for(mesh.issuer.token(new_id("b")), on_call=calls.append)
    with pytest.raises(InvalidRequest, match="quantity"):
        await buyer.buy(sku, 1000)
    assert [call.method for call in calls] == ["IssuePurchaseToken", "Purchase"]


async def test_the_twin_for_threads_does_the_same(mesh: Mesh) -> None:
    """Buy, wait, pay."""
    sku = await open_sale(mesh, sale_terms(units=1))

    def play() -> tuple[Outcome, Outcome, int, int]:
        with SyncSeckillClient(
            mesh.address("gateway"), credentials=mesh.call_credentials()
        ) as client:
            winner = client.acting_for(mesh.issuer.token(new_id("b")))
            bought = winner.buy(sku)
            user = new_id("b")
            late = client.acting_for(lambda: mesh.issuer.token(user)).buy(sku)
            order = winner.wait(bought.order_no, visible)
            winner.pay(bought.order_no, payment_id=new_id("pay"), amount=PRICE)
            left = client.sale(sku).remaining_units
            paid = winner.wait(order.order_no)
            return bought.outcome, late.outcome, left, paid.state

    told = await asyncio.to_thread(play)
    assert told == (Outcome.RESERVED, Outcome.SOLD_OUT, 0, order_pb2.ORDER_STATE_PAID)


@pytest.mark.slow
async def test_a_buyer_is_answered_through_a_gateway_that_was_killed(mesh: Mesh) -> None:
    """Under the same request id; the record has the calls that failed."""
    sku = await open_sale(mesh, sale_terms(units=1))
    async with SeckillClient(
        mesh.address("gateway"), credentials=mesh.call_credentials()
    ) as client:
        user = new_id("b")
        buyer = Buyer(client, user, mesh.issuer.token(user))
        await asyncio.to_thread(mesh.kill, "gateway")
        buying = asyncio.create_task(buyer.buy(sku))
        await asyncio.to_thread(mesh.restart, "gateway")
        attempt = await buying
    assert attempt.outcome is Outcome.RESERVED
    assert attempt.errors
    assert not attempt.unknown
    assert buyer.order_no == attempt.order_no
