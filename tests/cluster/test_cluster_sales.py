"""Sales in a Redis Cluster, over all its shards, by the real services."""

import asyncio

import grpc
import pytest

from devstack import Stores, ValkeyCluster
from inventory_svc.keys import skus_key
from order_svc.orders.projection import key_of
from seckill.client import Outcome
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, order_pb2, order_pb2_grpc
from tests.kits.factories import sale_terms
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.redis_cluster import crossed_slots, sku_at
from tests.kits.waiting import eventually

pytestmark = pytest.mark.slow
UNITS, BUYERS = 15, 20
CALL_S = 5.0


async def test_sales_of_all_shards_sell_out_and_give_back(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """Orders are what was promised, polls find them, unpaid units come back; no command names two
    slots.
    """
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback")
        skus = [sku_at(redis_cluster, master) for master in redis_cluster.masters()]
        buyers = {}
        for sku in skus:
            terms = sale_terms(sku=sku, units=UNITS, payment_window_s=3.0)
            await mesh.open_sale(terms)
            buyers[sku] = make_buyers(mesh, sku)
        told = await asyncio.gather(*(buyers[sku].arrive(BUYERS) for sku in skus))
        for attempts in told:
            outcomes = [attempt.outcome for attempt in attempts]
            assert outcomes.count(Outcome.RESERVED) == UNITS
            assert outcomes.count(Outcome.SOLD_OUT) == BUYERS - UNITS
        numbers = [attempt.order_no for one in told for attempt in one if attempt.order_no]
        async with mesh.channel("order") as channel:
            orders = order_pb2_grpc.OrderServiceStub(channel)

            async def found() -> list[bool]:
                request = order_pb2.BatchGetOrdersRequest(order_nos=numbers)
                answer = await orders.BatchGetOrders(request, timeout=CALL_S)
                return [bool(order) for order in answer.orders]

            await eventually(found, all)
        assert all([await mesh.reader.redis.exists(key_of(number)) for number in numbers])

        async def returned() -> list[int]:
            found = [await mesh.reader.redis.get(f"seckill:stock:{{{sku}}}") for sku in skus]
            return [int(units or -1) for units in found]

        await eventually(returned, lambda left: left == [UNITS] * 3, timeout_s=30)
        for sku in skus:
            assert not await mesh.reader.violations(sku, buyers[sku].history)
        assert not crossed_slots(redis_cluster)


async def test_the_kill_switch_stops_the_sales_of_all_shards(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """It is one key, on one node, and another replica hears of it from whichever node it is on."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "inventory/b")
        skus = [sku_at(redis_cluster, master) for master in redis_cluster.masters()]
        for sku in skus:
            await mesh.open_sale(sale_terms(sku=sku, units=1_000))
        async with mesh.channel("inventory") as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            request = inventory_pb2.SetKillSwitchRequest(on=True, reason="a test")
            await stub.SetKillSwitch(request, timeout=CALL_S)
            other = [make_buyers(mesh, sku, "inventory/b") for sku in skus]

            async def reserved() -> int:
                attempts = [await one.attempt() for one in other]
                return sum(attempt.outcome is Outcome.RESERVED for attempt in attempts)

            await eventually(reserved, lambda count: count == 0)
            await stub.SetKillSwitch(inventory_pb2.SetKillSwitchRequest(on=False), timeout=CALL_S)
            await eventually(reserved, lambda count: count == len(skus))
        assert not crossed_slots(redis_cluster)


async def test_sales_of_other_shards_are_listed_again_after_the_list_was_lost(
    make_cluster: MakeCluster, cluster_stores: Stores, redis_cluster: ValkeyCluster
) -> None:
    """The list is one key: its node may come back empty while the sales of others go on."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory")
        sku = sku_at(redis_cluster, redis_cluster.masters()[0])
        await mesh.open_sale(sale_terms(sku=sku, units=10))
        await mesh.reader.redis.delete(skus_key())
        async with mesh.channel("inventory") as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)

            async def listed() -> list[str]:
                answer = await stub.ListSales(inventory_pb2.ListSalesRequest(), timeout=CALL_S)
                return [sale.terms.sku for sale in answer.sales]

            assert sku not in await listed()
            lost = await stub.ListLostSales(inventory_pb2.ListLostSalesRequest(), timeout=CALL_S)
            assert not lost.skus
            assert sku in await listed()


async def test_inventory_without_the_setting_is_not_ready(
    make_cluster: MakeCluster, cluster_stores: Stores, redis_cluster: ValkeyCluster
) -> None:
    """It names the setting, and promises nothing."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order")
        first = redis_cluster.masters()[0]
        await mesh.launch("inventory", redis_url=f"redis://{first.address}", redis_cluster="false")
        assert await mesh.logged("inventory", "SECKILL_REDIS_CLUSTER must be true")
        async with mesh.channel("inventory") as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.CreateSale(
                    inventory_pb2.CreateSaleRequest(terms=sale_terms()), timeout=CALL_S
                )
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
