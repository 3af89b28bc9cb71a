"""Replicas of rollback_svc share the work by claims that end by themselves."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from devstack import Stores
from rollback_svc.clients import InventoryClient, OrderClient
from seckill.status import reason_of
from seckill.v1 import order_pb2
from tests.kits.recovery import DamagedShop, open_shop
from tests.kits.rollback import TIMEOUT_S, Shop
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

# Longer than any test lasts.
FOR_LONG_S = 3_600.0
MANY = 1_000
Orders = Sequence[order_pb2.UnrestoredOrder]


class Died(Exception):
    """The replica's process ended here."""


class CountedOrders(OrderClient):
    """Counts what it is asked for."""

    cancelled = 0
    claimed = 0

    async def cancel_expired(self, order_nos: Sequence[str]) -> order_pb2.CancelExpiredResponse:
        self.cancelled += len(order_nos)
        return await super().cancel_expired(order_nos)

    async def claim_unrestored(self, limit: int) -> Orders:
        found = await super().claim_unrestored(limit)
        self.claimed += len(found)
        return found


class DiesBeforeCancel(OrderClient):
    """Its caller dies with its claims."""

    async def cancel_expired(self, order_nos: Sequence[str]) -> order_pb2.CancelExpiredResponse:
        del order_nos
        raise Died


class DiesBeforeRelease(InventoryClient):
    """Its caller dies with cancelled orders whose units are out."""

    async def release(self, sku: str, orders: Orders) -> int:
        del sku, orders
        raise Died


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Order and inventory services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


async def give_up(shop: Shop, numbers: Sequence[str]) -> None:
    """Their buyers do not want these orders."""
    await asyncio.gather(
        *(
            shop.orders.CancelOrder(
                order_pb2.CancelOrderRequest(order_no=number), timeout=TIMEOUT_S
            )
            for number in numbers
        )
    )


async def test_two_replicas_share_what_is_due(shop: DamagedShop) -> None:
    """Of 1,000 due orders each is asked for by one of them, and both have some."""
    sku = await shop.open_sale(MANY)
    await shop.buy_and_let_expire(sku, MANY)
    services = [await shop.order_client(CountedOrders, lease_s=FOR_LONG_S) for _ in range(2)]
    replicas = [
        await shop.sweeper(orders=service, page_size=100, lease_s=FOR_LONG_S)
        for service in services
    ]
    results = await asyncio.gather(*(replica.run_once(time.time()) for replica in replicas))
    assert all(result.ok for result in results)
    assert sum(service.cancelled for service in services) == MANY
    assert all(service.cancelled for service in services)
    # What one has cancelled is its own to restore, and nothing was done twice.
    assert sum(service.claimed for service in services) == 0
    assert sum(result.restored_units for result in results) == MANY
    assert await shop.remaining(sku) == MANY


async def test_two_replicas_share_the_restore_outbox(shop: DamagedShop) -> None:
    """Orders given up by their buyers: each is claimed by one replica only."""
    sku = await shop.open_sale(60, payment_window_s=600.0)
    await give_up(shop, await shop.buy(sku, 60))
    services = [await shop.order_client(CountedOrders, lease_s=FOR_LONG_S) for _ in range(2)]
    replicas = [
        await shop.sweeper(orders=service, page_size=10, lease_s=FOR_LONG_S) for service in services
    ]
    results = await asyncio.gather(*(replica.run_once(time.time()) for replica in replicas))
    assert sum(service.claimed for service in services) == 60
    assert sum(result.restored_units for result in results) == 60
    assert await shop.remaining(sku) == 60


@pytest.mark.parametrize("step", ["cancel", "release"])
async def test_what_a_living_replica_has_claimed_is_left_to_it(
    shop: DamagedShop, step: str
) -> None:
    """Neither its due orders nor those it has cancelled are another's before its lease ends."""
    sku = await shop.open_sale(10)
    await shop.buy_and_let_expire(sku, 10)
    busy = await shop.sweeper(
        orders=await shop.order_client(
            DiesBeforeCancel if step == "cancel" else OrderClient, lease_s=FOR_LONG_S
        ),
        inventory=await shop.inventory_client(DiesBeforeRelease),
        lease_s=FOR_LONG_S,
    )
    with pytest.raises(Died):
        await busy.run_once(time.time())
    service = await shop.order_client(CountedOrders, lease_s=FOR_LONG_S)
    other = await shop.sweeper(orders=service, lease_s=FOR_LONG_S)
    result = await other.run_once(time.time())
    assert result.ok
    assert (service.cancelled, service.claimed, result.restored_units) == (0, 0, 0)


async def test_a_due_order_that_another_is_restoring_is_put_off(shop: DamagedShop) -> None:
    """Given up, and claimed from the list, just when its payment time ends."""
    sku = await shop.open_sale(10, payment_window_s=600.0)
    (number,) = await shop.buy(sku, 1)
    await give_up(shop, [number])
    another = await shop.order_client(OrderClient, lease_s=FOR_LONG_S)
    assert [order.order_no for order in await another.claim_unrestored(10)] == [number]
    await shop.delay.add({number: 1.0})
    begun_s = time.time()
    result = await (await shop.sweeper(lease_s=FOR_LONG_S)).run_once(begun_s)
    assert result.ok
    assert result.restored_units == 0
    assert (await shop.scores())[number] > begun_s + 10


@pytest.mark.parametrize("step", ["cancel", "release", "given up"])
async def test_claims_of_a_dead_replica_pass_to_another(shop: DamagedShop, step: str) -> None:
    """Once the lease has ended its orders are due again, and each unit comes back once."""
    sku = await shop.open_sale(10, payment_window_s=600.0 if step == "given up" else 1.0)
    if step == "given up":
        await give_up(shop, await shop.buy(sku, 10))
    else:
        await shop.buy_and_let_expire(sku, 10)
    lease_s = 0.5
    dying = await shop.sweeper(
        orders=await shop.order_client(
            DiesBeforeCancel if step == "cancel" else OrderClient, lease_s=lease_s
        ),
        inventory=await shop.inventory_client(DiesBeforeRelease),
        lease_s=lease_s,
    )
    with pytest.raises(Died):
        await dying.run_once(time.time())
    # It leaves the database's list of expired orders out: its own lease is long.
    other = await shop.sweeper(lease_s=FOR_LONG_S)
    units = 0

    async def restored() -> int:
        nonlocal units
        units += (await other.run_once(time.time())).restored_units
        return units

    await eventually(restored, lambda seen: seen == 10)
    assert await shop.remaining(sku) == 10
    assert (await shop.totals(sku)).restored_units == 10


async def test_a_sale_that_refuses_hides_no_other_sales_orders(shop: DamagedShop) -> None:
    """Its orders fill the first pages of the list; those behind them are restored all the same."""
    lost = await shop.open_sale(20, payment_window_s=600.0)
    whole = await shop.open_sale(20, payment_window_s=600.0)
    await give_up(shop, await shop.buy(lost, 12))
    await give_up(shop, await shop.buy(whole, 3))
    await shop.lose(lost)
    sweeper = await shop.sweeper(page_size=4, lease_s=FOR_LONG_S)
    result = await sweeper.run_once(time.time())
    assert result.refused_skus == {lost}
    assert await shop.remaining(whole) == 20
    assert (await shop.totals(lost)).restored_units == 0


async def test_due_orders_that_could_not_be_cancelled_are_due_again_at_once(
    shop: DamagedShop,
) -> None:
    """The order service is away: its return is not followed by the wait for a lease."""
    sku = await shop.open_sale(10)
    numbers = await shop.buy_and_let_expire(sku, 10)
    unreachable = OrderClient(
        await shop.channel("127.0.0.1:1"), timeout_s=TIMEOUT_S, lease_s=FOR_LONG_S
    )
    away = await shop.sweeper(orders=unreachable, lease_s=FOR_LONG_S)
    assert (await away.run_once(time.time())).errors
    scores = await shop.scores()
    assert all(scores[number] <= time.time() for number in numbers)
    healed = await shop.sweeper(lease_s=FOR_LONG_S)
    assert (await healed.run_once(time.time())).restored_units == 10


async def test_the_database_sweep_leaves_the_delay_set_its_time(shop: DamagedShop) -> None:
    """What has only just expired is not looked for twice; what was lost long ago is found."""
    sku = await shop.open_sale(10)
    await shop.buy_and_let_expire(sku, 10)
    await shop.redis.delete("seckill:delay")
    service = await shop.order_client(CountedOrders, lease_s=FOR_LONG_S)
    sweeper = await shop.sweeper(orders=service, lease_s=FOR_LONG_S)
    await sweeper.run_once(time.time())
    assert service.cancelled == 0
    await shop.sql.execute(
        "UPDATE orders SET created_at = created_at - interval '3 h',"
        " expires_at = expires_at - interval '2 h' WHERE sku = $1",
        sku,
    )
    later_s = time.time() + 3_600.0
    assert (await sweeper.run_once(later_s)).restored_units == 10


async def test_a_lease_is_bounded(shop: DamagedShop) -> None:
    """None at all would claim nothing, and one without end would hide an order for ever."""
    for seconds in (0, -1, 3_601, 10_000_000_000):
        request = order_pb2.ClaimUnrestoredRequest()
        request.lease.seconds = seconds
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.orders.ClaimUnrestored(request, timeout=TIMEOUT_S)
        assert reason_of(caught.value) == "INVALID_FIELD"
