"""A sale in four buckets on a cluster of three masters: one of them dies, and none of its units."""

import asyncio

import grpc
import pytest

from devstack import Stores, ValkeyCluster
from devstack.valkey_cluster import ClusterNode
from inventory_svc.keys import sale_key, stock_key, transfers_key, users_key
from seckill.client import Outcome
from seckill.runtime.bucket_tags import tags_of
from seckill.runtime.redis_slots import slot_of
from seckill.v1 import inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.kits.factories import sale_terms
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.redis_cluster import crossed_slots, is_whole
from tests.kits.waiting import eventually

pytestmark = pytest.mark.slow
BUCKETS = 4
WAIT = {"inventory_wait_replicas": "1", "inventory_wait_timeout_ms": "200"}
ARRIVAL_S = 0.02
REBUILD_S, FAILOVER_S = 60.0, 30.0


def bucketed(units: int, *, payment_window_s: float = 600.0) -> sale_pb2.SaleTerms:
    """Terms of a sale of several buckets."""
    terms = sale_terms(units=units, payment_window_s=payment_window_s)
    terms.buckets = BUCKETS
    return terms


def master_of(cluster: ValkeyCluster, tag: str) -> ClusterNode:
    """Return the master that has a bucket."""
    return cluster.master_of(slot_of([sale_key(tag)]))


async def test_a_bucketed_sale_sells_out_over_all_masters_and_gives_back(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """Two inventories sell exactly the stock, and unpaid units come back to be sold."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "inventory/b", "rollback")
        terms = bucketed(30, payment_window_s=3.0)
        await mesh.open_sale(terms)
        tags = tags_of(terms.sku, BUCKETS)
        # Four equal parts of the slots, of which three masters have a third each.
        assert len({master_of(redis_cluster, tag).address for tag in tags}) > 1
        first, second = make_buyers(mesh, terms.sku), make_buyers(mesh, terms.sku, "inventory/b")

        told = await asyncio.gather(first.arrive(40), second.arrive(40))

        outcomes = [attempt.outcome for attempts in told for attempt in attempts]
        assert outcomes.count(Outcome.RESERVED) == 30
        assert outcomes.count(Outcome.SOLD_OUT) == 50

        async def returned() -> int:
            return (await mesh.reader.facts(terms.sku)).remaining or 0

        await eventually(returned, lambda left: left == 30, timeout_s=30)
        late = await second.arrive(10)
        assert {attempt.outcome for attempt in late} == {Outcome.RESERVED}
        assert not crossed_slots(redis_cluster)


async def test_a_master_of_one_bucket_dies_in_the_middle_of_a_sale(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """Callers are told to come back, and every unit is sold, those that were on their way too."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback", **WAIT)
        terms = bucketed(300)
        await mesh.open_sale(terms)
        buyers = make_buyers(mesh, terms.sku)
        assert {told.outcome for told in await buyers.arrive(50)} == {Outcome.RESERVED}
        selling = asyncio.create_task(buyers.arrive(300, every_s=ARRIVAL_S))
        dying = master_of(redis_cluster, tags_of(terms.sku, BUCKETS)[0])
        await asyncio.to_thread(dying.kill)
        await eventually(
            lambda: asyncio.to_thread(redis_cluster.is_followed, dying), timeout_s=FAILOVER_S
        )
        await asyncio.to_thread(dying.start)

        outcomes = [attempt.outcome for attempt in await selling]

        assert outcomes.count(Outcome.RESERVED) == 250
        assert outcomes.count(Outcome.SOLD_OUT) == 50
        assert buyers.history.codes <= {grpc.StatusCode.UNAVAILABLE}
        assert (await mesh.reader.facts(terms.sku)).remaining == 0
        assert not await mesh.reader.violations(terms.sku, buyers.history)
        assert not crossed_slots(redis_cluster)
        await eventually(lambda: asyncio.to_thread(is_whole, redis_cluster), timeout_s=FAILOVER_S)


async def test_a_bucket_that_is_lost_comes_back_with_the_sale(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """All buckets are rebuilt from the database, under one epoch, and all units are sold."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback")
        terms = bucketed(60)
        await mesh.open_sale(terms)
        buyers = make_buyers(mesh, terms.sku)
        assert {told.outcome for told in await buyers.arrive(20)} == {Outcome.RESERVED}
        assert not await mesh.reader.violations(terms.sku, buyers.history)
        tag = tags_of(terms.sku, BUCKETS)[1]
        for key in (sale_key(tag), stock_key(tag), users_key(tag), transfers_key(tag)):
            await mesh.reader.redis.delete(key)
        async with mesh.channel("inventory") as channel:
            stub = inventory_pb2_grpc.InventoryServiceStub(channel)
            rebuild = inventory_pb2.RebuildSaleRequest(sku=terms.sku)
            sale = (await stub.RebuildSale(rebuild, timeout=REBUILD_S)).sale
        assert (sale.epoch, sale.remaining_units) == (2, 40)

        outcomes = [attempt.outcome for attempt in await buyers.arrive(50)]

        assert outcomes.count(Outcome.RESERVED) == 40
        assert outcomes.count(Outcome.SOLD_OUT) == 10
        assert not await mesh.reader.violations(terms.sku, buyers.history)
        assert not crossed_slots(redis_cluster)
