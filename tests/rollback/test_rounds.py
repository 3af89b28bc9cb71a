"""rollback_svc on real stores, with the real order and inventory services."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence

import pytest

import rollback_svc.__main__
from devstack import Stores
from rollback_svc.clients import InventoryClient, OrderClient
from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.order_no import make_order_nos
from seckill.v1 import (
    order_pb2,
    rollback_pb2,
    rollback_pb2_grpc,
)
from tests.kits.factories import PRICE, new_id
from tests.kits.recovery import open_shop
from tests.kits.rollback import TIMEOUT_S, Shop, free_address, running
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

UNITS = 20
BUYERS = 12
Orders = Sequence[order_pb2.UnrestoredOrder]


class Died(Exception):
    """The replica's process ended here."""


class DiesAfterCancel(OrderClient):
    """Its caller dies once the orders are cancelled."""

    async def cancel_expired(self, order_nos: Sequence[str]) -> order_pb2.CancelExpiredResponse:
        await super().cancel_expired(order_nos)
        raise Died


class DiesAfterMark(OrderClient):
    """Its caller dies before it can clear the delay set."""

    async def mark_restored(self, order_nos: Sequence[str]) -> int:
        await super().mark_restored(order_nos)
        raise Died


class KnowsOnlyWhatItIsAsked(OrderClient):
    """Its lists are empty, so only the delay set tells what is due."""

    async def list_expired(self, limit: int, *, overdue_s: float) -> Sequence[str]:
        del limit, overdue_s
        return []

    async def claim_unrestored(self, limit: int) -> Orders:
        del limit
        return []


class DiesAfterRelease(InventoryClient):
    """Its caller dies once the units are back, before that is noted."""

    async def release(self, sku: str, orders: Orders) -> int:
        await super().release(sku, orders)
        raise Died


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[Shop]:
    """Both services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def clear(shop: Shop, numbers: Sequence[str], sweeper: Sweeper) -> bool:
    """Whether another round leaves none of these in the delay set."""
    await sweeper.run_once(time.time())
    return not await shop.delayed(numbers)


async def swept(sweeper: Sweeper, *, units: int) -> None:
    """Round after round until so many units are back; what others have claimed comes due again."""
    restored = 0

    async def sweep() -> int:
        nonlocal restored
        result = await sweeper.run_once(time.time(), everything=True)
        assert result.ok
        restored += result.restored_units
        return restored

    await eventually(sweep, lambda seen: seen == units)


async def assert_restored_once(shop: Shop, sku: str, *, restored: int) -> None:
    """Every unit is on sale again, and both stores say so."""
    totals = await shop.totals(sku)
    assert totals.restored_units == restored
    assert totals.sold_units == UNITS - await shop.remaining(sku)


async def test_unpaid_units_return_once_however_often_it_is_swept(shop: Shop) -> None:
    """The first round returns them, the second finds nothing to do."""
    sku = await shop.open_sale(UNITS)
    numbers = await shop.buy_and_let_expire(sku, BUYERS)
    assert await shop.remaining(sku) == UNITS - BUYERS
    sweeper = await shop.sweeper()
    first = await sweeper.run_once(time.time())
    assert first.ok
    assert (len(first.unrestored), first.restored_units) == (BUYERS, BUYERS)
    second = await sweeper.run_once(time.time(), everything=True)
    assert second.ok
    assert (len(second.unrestored), second.restored_units) == (0, 0)
    assert await shop.delayed(numbers) == set()
    assert await shop.remaining(sku) == UNITS
    await assert_restored_once(shop, sku, restored=BUYERS)


async def test_the_delay_set_alone_is_worked_through_page_by_page(shop: Shop) -> None:
    """More orders are due than fit a page, and the database's lists are not needed."""
    sku = await shop.open_sale(UNITS)
    numbers = await shop.buy_and_let_expire(sku, BUYERS)
    sweeper = await shop.sweeper(
        orders=await shop.order_client(KnowsOnlyWhatItIsAsked), page_size=5
    )
    assert (await sweeper.run_once(time.time())).restored_units == BUYERS
    assert await shop.delayed(numbers) == set()
    await assert_restored_once(shop, sku, restored=BUYERS)


async def test_replicas_at_the_same_moment_restore_exactly_once(shop: Shop) -> None:
    """Four of them see the same orders; the stores decide which of them counts."""
    sku = await shop.open_sale(UNITS)
    await shop.buy_and_let_expire(sku, BUYERS)
    replicas = [await shop.sweeper() for _ in range(4)]
    results = await asyncio.gather(
        *(replica.run_once(time.time(), everything=True) for replica in replicas)
    )
    assert all(result.ok for result in results)
    assert sum(result.restored_units for result in results) == BUYERS
    assert await shop.remaining(sku) == UNITS
    await assert_restored_once(shop, sku, restored=BUYERS)


@pytest.mark.parametrize("step", ["cancel", "release", "mark"])
async def test_the_next_round_heals_what_a_dead_one_left(shop: Shop, step: str) -> None:
    """Wherever a replica dies, another returns the units, once."""
    sku = await shop.open_sale(UNITS)
    numbers = await shop.buy_and_let_expire(sku, BUYERS)
    dying = await shop.sweeper(
        orders=await shop.order_client(
            {"cancel": DiesAfterCancel, "mark": DiesAfterMark}.get(step, OrderClient)
        ),
        inventory=await shop.inventory_client(
            {"release": DiesAfterRelease}.get(step, InventoryClient)
        ),
    )
    with pytest.raises(Died):
        await dying.run_once(time.time())
    healing = await shop.sweeper()

    async def restored() -> int:
        assert (await healing.run_once(time.time())).ok
        return (await shop.totals(sku)).restored_units

    # The dead one's claims are left to it until their lease ends.
    await eventually(restored, lambda units: units == BUYERS)
    await eventually(lambda: clear(shop, numbers, healing))
    assert await shop.remaining(sku) == UNITS
    assert await shop.delayed(numbers) == set()
    await assert_restored_once(shop, sku, restored=BUYERS)


async def test_the_database_sweep_finds_what_a_lost_delay_set_forgot(shop: Shop) -> None:
    """DEL seckill:delay costs no unit."""
    sku = await shop.open_sale(UNITS)
    await shop.buy_and_let_expire(sku, BUYERS)
    await shop.redis.delete("seckill:delay")
    sweeper = await shop.sweeper()

    async def restored() -> int:
        return (await sweeper.run_once(time.time())).restored_units

    await eventually(restored, lambda units: units == BUYERS)
    await assert_restored_once(shop, sku, restored=BUYERS)


async def test_paid_orders_keep_their_units(shop: Shop) -> None:
    """The delay set names them too; they only leave it."""
    sku = await shop.open_sale(UNITS, payment_window_s=600.0)
    numbers = await shop.buy(sku, BUYERS)
    for number in numbers:
        await shop.orders.PayOrder(
            order_pb2.PayOrderRequest(order_no=number, payment_id=new_id("pay"), amount=PRICE),
            timeout=TIMEOUT_S,
        )
    await shop.delay.add(dict.fromkeys(numbers, 1.0))
    result = await (await shop.sweeper()).run_once(time.time())
    assert result.ok
    assert result.restored_units == 0
    assert await shop.delayed(numbers) == set()
    assert await shop.remaining(sku) == UNITS - BUYERS


async def test_an_order_that_the_database_calls_pending_is_put_off(shop: Shop) -> None:
    """A wrong score, or a clock that is ahead, cancels nothing."""
    sku = await shop.open_sale(UNITS, payment_window_s=600.0)
    (number,) = await shop.buy(sku, 1)
    await shop.delay.add({number: 1.0})
    result = await (await shop.sweeper()).run_once(time.time())
    assert result.ok
    assert not result.unrestored
    (order,) = await shop.found([number])
    expires_s = order.expire_time.ToMilliseconds() / 1000
    assert (await shop.scores())[number] == pytest.approx(expires_s, abs=0.001)
    assert await shop.remaining(sku) == UNITS - 1


async def test_unknown_numbers_stay_while_young_and_leave_when_old(shop: Shop) -> None:
    """A row may be on its way for a while; nothing holds up the set for ever."""
    now_s = time.time()
    rng = random.Random(3)
    (young,) = make_order_nos([new_id("buyer")], now_s=now_s, rng=rng)
    (old,) = make_order_nos([new_id("buyer")], now_s=now_s - 7_200.0, rng=rng)
    await shop.delay.add({young: now_s - 1.0, old: now_s - 1.0, "no number": now_s - 1.0})
    result = await (await shop.sweeper()).run_once(now_s)
    assert result.ok
    assert result.unknown_orders == 2
    scores = await shop.scores()
    assert set(scores) == {young}
    assert scores[young] > now_s


async def test_an_order_given_up_by_its_buyer_returns_in_the_next_round(shop: Shop) -> None:
    """Its units do not wait for its payment time to end."""
    sku = await shop.open_sale(UNITS, payment_window_s=600.0)
    numbers = await shop.buy(sku, 2)
    await shop.orders.CancelOrder(
        order_pb2.CancelOrderRequest(order_no=numbers[0]), timeout=TIMEOUT_S
    )
    assert (await (await shop.sweeper()).run_once(time.time())).restored_units == 1
    assert await shop.remaining(sku) == UNITS - 1
    assert await shop.delayed(numbers) == {numbers[1]}


async def test_a_service_that_is_away_delays_and_loses_nothing(shop: Shop) -> None:
    """The fault is told, not raised, and the round after it does the work."""
    sku = await shop.open_sale(UNITS)
    await shop.buy_and_let_expire(sku, BUYERS)
    away = await shop.inventory_client(address=free_address())
    result = await (await shop.sweeper(inventory=away)).run_once(time.time())
    assert result.errors
    assert result.restored_units == 0
    assert (await shop.totals(sku)).restored_units == 0
    await swept(await shop.sweeper(), units=BUYERS)
    await assert_restored_once(shop, sku, restored=BUYERS)


async def test_a_sale_that_redis_has_lost_does_not_hold_up_the_others(shop: Shop) -> None:
    """Its orders stay out until it is loaded again; the other sale's units return."""
    lost, whole = await shop.open_sale(UNITS), await shop.open_sale(UNITS)
    waiting = await shop.buy(lost, BUYERS)
    await shop.buy_and_let_expire(whole, BUYERS)
    await shop.redis.delete(*(f"seckill:{kind}:{{{lost}}}" for kind in ("sale", "stock", "users")))
    begun_s = time.time()
    result = await (await shop.sweeper()).run_once(begun_s)
    assert result.refused_skus == {lost}
    assert not result.errors
    assert not result.ok
    await assert_restored_once(shop, whole, restored=BUYERS)
    assert (await shop.totals(lost)).restored_units == 0
    scores = await shop.scores()
    assert all(scores[number] > begun_s + 10 for number in waiting)


async def test_the_process_sweeps_by_itself_and_tells_operators(shop: Shop, redis_url: str) -> None:
    """Rounds run without being asked; Sweep runs one more; GetStatus adds them up."""
    address = free_address()
    settings = RollbackSettings.model_validate(
        {
            "profile": "development",
            "redis_url": redis_url,
            "rollback_listen": address,
            "rollback_interval_s": 0.05,
            "order_target": f"dns:///{shop.orders_address}",
            "inventory_target": f"dns:///{shop.inventory_address}",
        }
    )
    sku = await shop.open_sale(UNITS)
    await shop.buy(sku, BUYERS)
    async with running(rollback_svc.__main__.serve, settings, address=address):
        stub = rollback_pb2_grpc.RollbackServiceStub(await shop.channel(address))
        await eventually(lambda: shop.remaining(sku), lambda units: units == UNITS)

        async def status() -> rollback_pb2.GetStatusResponse:
            return await stub.GetStatus(rollback_pb2.GetStatusRequest(), timeout=TIMEOUT_S)

        seen = await eventually(status, lambda found: found.restored_units == BUYERS)
        assert seen.rounds >= 1
        assert seen.last_success_time.seconds > 0
        assert (seen.due_orders, seen.delayed_orders) == (0, 0)
        swept = await stub.Sweep(rollback_pb2.SweepRequest(), timeout=TIMEOUT_S)
        assert (swept.cancelled_orders, swept.restored_units) == (0, 0)
        compared = await stub.Reconcile(rollback_pb2.ReconcileRequest(sku=sku), timeout=TIMEOUT_S)
        assert not compared.findings
    await assert_restored_once(shop, sku, restored=BUYERS)
