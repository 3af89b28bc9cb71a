"""A master dies, and a slot moves, while their sale sells: nothing is oversold, nothing is lost."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from devstack import Stores, ValkeyCluster
from devstack.slot_move import SlotMove
from devstack.valkey_cluster import ClusterNode
from seckill.client import Outcome
from seckill_cli.demo.buyer import Attempt
from tests.kits.factories import sale_terms
from tests.kits.faults.buyers import PATIENCE_S, Buyers
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.redis_cluster import (
    crossed_slots,
    is_whole,
    sku_at,
    slot_of_sku,
)
from tests.kits.waiting import eventually

pytestmark = pytest.mark.slow
WAIT = {"inventory_wait_replicas": "1", "inventory_wait_timeout_ms": "200"}
# A buyer each so many seconds.
ARRIVAL_S = 0.02
SOLD_BEFORE = 50
FAILOVER_S = 30.0


@pytest.mark.parametrize(
    ("leave", "come_back"),
    [(ClusterNode.kill, ClusterNode.start), (ClusterNode.pause, ClusterNode.resume)],
    ids=["killed", "frozen"],
)
async def test_a_master_is_lost_in_the_middle_of_a_sale(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
    leave: Callable[[ClusterNode], object],
    come_back: Callable[[ClusterNode], object],
) -> None:
    """Callers are told to come back, the sale goes on at the promoted replica, and the sale of
    another shard never stops. The old master promises nothing when it is back.
    """
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback", **WAIT)
        dying, living = redis_cluster.masters()[:2]
        sku, other_sku = sku_at(redis_cluster, dying), sku_at(redis_cluster, living)
        await mesh.open_sale(sale_terms(sku=sku, units=1_000))
        await mesh.open_sale(sale_terms(sku=other_sku, units=1_000))
        buyers, others = make_buyers(mesh, sku), make_buyers(mesh, other_sku)
        before = await buyers.arrive(SOLD_BEFORE)
        assert {attempt.outcome for attempt in before} == {Outcome.RESERVED}
        selling = asyncio.create_task(buyers.arrive(300, every_s=ARRIVAL_S))
        await asyncio.to_thread(leave, dying)
        try:
            meanwhile = [await others.buy() for _ in range(50)]
            assert {attempt.outcome for attempt in meanwhile} == {Outcome.RESERVED}
            await eventually(
                lambda: asyncio.to_thread(redis_cluster.is_followed, dying), timeout_s=FAILOVER_S
            )
        finally:
            # Back as the replica of the one that was promoted: reservations can be confirmed again.
            await asyncio.to_thread(come_back, dying)
        told = await selling
        assert {attempt.outcome for attempt in told} == {Outcome.RESERVED}
        assert buyers.history.codes <= {grpc.StatusCode.UNAVAILABLE}
        assert redis_cluster.master_of(slot_of_sku(sku)) is not dying
        assert not await mesh.reader.violations(sku, buyers.history)
        assert not await mesh.reader.violations(other_sku, others.history)
        assert not crossed_slots(redis_cluster)
        await eventually(lambda: asyncio.to_thread(is_whole, redis_cluster), timeout_s=FAILOVER_S)


async def sell_while(buyers: Buyers, act: Callable[[], object]) -> None:
    """Let buyers come, one after the other at eight tills, until some time after `act`."""
    stop = asyncio.Event()
    attempts: list[Attempt] = []

    async def till() -> None:
        while not stop.is_set():
            attempts.append(await buyers.attempt())

    async with asyncio.TaskGroup() as tills:
        for _ in range(8):
            tills.create_task(till())
        await eventually(lambda: _count(attempts), lambda count: count >= SOLD_BEFORE)
        await asyncio.to_thread(act)
        sold = len(attempts)
        await eventually(lambda: _count(attempts), lambda count: count >= sold + SOLD_BEFORE)
        stop.set()


async def _count(attempts: list[Attempt]) -> int:
    return len(attempts)


@pytest.mark.parametrize("way", [SlotMove.by_keys, SlotMove.at_once], ids=["by-keys", "at-once"])
async def test_the_slot_of_a_sale_moves_while_it_sells(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
    way: Callable[[SlotMove], object],
) -> None:
    """The new owner answers; who comes while it moves is answered, or told to come back."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback")
        sku = sku_at(redis_cluster, redis_cluster.masters()[0])
        await mesh.open_sale(sale_terms(sku=sku, units=100_000))
        buyers = make_buyers(mesh, sku)
        move = SlotMove(redis_cluster, slot_of_sku(sku))

        def moved() -> None:
            way(move)
            move.wait(timeout_s=20.0)

        await sell_while(buyers, moved)
        assert redis_cluster.master_of(move.slot) is move.target
        assert buyers.history.codes <= {grpc.StatusCode.UNAVAILABLE}
        assert not await mesh.reader.violations(sku, buyers.history)
        assert not crossed_slots(redis_cluster)


async def test_a_master_with_stale_data_that_is_all_there_is_is_rebuilt(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """An operator puts the old master back in the place of its successor: what that one sold is not
    sold again.
    """
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "inventory", "rollback", inventory_wait_replicas="0")
        old = redis_cluster.masters()[0]
        sku = sku_at(redis_cluster, old)
        await mesh.open_sale(sale_terms(sku=sku, units=80))
        # Their second crowd waits for a shard to be confirmed, and for a rebuild.
        buyers = make_buyers(mesh, sku, patience_s=2 * PATIENCE_S)
        assert {told.outcome for told in await buyers.arrive(50)} == {Outcome.RESERVED}
        assert not await mesh.reader.violations(sku, buyers.history)
        await asyncio.to_thread(old.kill)
        await eventually(
            lambda: asyncio.to_thread(redis_cluster.is_followed, old), timeout_s=FAILOVER_S
        )
        assert {told.outcome for told in await buyers.arrive(20)} == {Outcome.RESERVED}
        assert not await mesh.reader.violations(sku, buyers.history)
        successor = redis_cluster.master_of(slot_of_sku(sku))
        await asyncio.to_thread(successor.kill)
        # The delay set may have been there: what it has lost is found by the sweep of the database.
        buyers.history.tampering.undelayed_s = time.time() + FAILOVER_S
        await asyncio.to_thread(old.start)
        await eventually(lambda: asyncio.to_thread(_takes_over, old), timeout_s=FAILOVER_S)
        told = await buyers.arrive(20)
        outcomes = [attempt.outcome for attempt in told]
        assert (outcomes.count(Outcome.RESERVED), outcomes.count(Outcome.SOLD_OUT)) == (10, 10)
        assert '"discarded_sales": 1' in await mesh.logged("inventory", '"discarded_sales": 1')
        assert not await mesh.reader.violations(sku, buyers.history)


def _takes_over(node: ClusterNode) -> bool:
    """Make a node the master of its shard, whatever its data is worth; return whether it is."""
    with node.client() as client:
        facts: Any = client.info("replication")
        if facts["role"] == "slave":
            client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
    return bool(facts["role"] == "master")
