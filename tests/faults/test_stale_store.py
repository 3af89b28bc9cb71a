"""A Redis primary that was left behind, with clients on it, promises nobody a unit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pytest
import redis.asyncio

from devstack import Stores, ValkeyServer
from inventory_svc.keys import generation_key, mesh_key, sale_key, stock_key
from seckill.client import Outcome
from seckill_cli.demo.buyer import Attempt
from tests.kits.factories import sale_terms
from tests.kits.faults.buyers import Buyers
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.proxy import FaultProxy
from tests.kits.health import NOT_SERVING, SERVING, until_health
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

LOOPBACK = "127.0.0.1"
# Longer than by default: an order service that is slower than two thirds of it counts as away.
LEASE_S = "6"
UNITS = 100
FIRST, LATER = 30, 60
OLD, NEW = "inventory", "inventory/b"


@dataclass
class Split:
    """Two primaries of one sale: an inventory stays on the old one, another uses the new one.

    Attributes:
        link: the way on which the new one replicates the old one.
        address: where order and rollback, and the inventory that is started later, find Redis.
    """

    old: "redis.asyncio.Redis"
    new: "redis.asyncio.Redis"
    new_port: int
    link: FaultProxy
    address: FaultProxy
    cluster: Cluster
    sku: str
    old_buyers: Buyers
    new_buyers: Buyers

    async def replicated(self) -> bool:
        """Whether the new one has all that the old one has."""
        offsets = [await client.info("replication") for client in (self.old, self.new)]
        return bool(offsets[0]["master_repl_offset"] == offsets[1].get("slave_repl_offset"))

    async def promote(self, **settings: str) -> None:
        """Promote the new one, and start an inventory that uses it."""
        await self.new.replicaof("NO", "ONE")
        self.address.switch(LOOPBACK, self.new_port)
        self.address.reset()
        url = f"redis://{LOOPBACK}:{self.address.port}/0"
        await self.cluster.start(NEW, redis_url=url, inventory_store_lease_s=LEASE_S, **settings)

    async def is_loaded_in_the_old_one(self) -> bool:
        """Whether the old one has the sale."""
        return await self.old.exists(sale_key(self.sku), stock_key(self.sku)) == 2

    async def sell_out(self) -> None:
        """Let buyers come to both, and see that all is right."""
        old, new = await asyncio.gather(
            self.old_attempts(LATER), self.new_buyers.arrive(UNITS - FIRST)
        )
        assert not [told for told in old if told.outcome is not None]
        assert {told.outcome for told in new} == {Outcome.RESERVED}
        assert (await self.new_buyers.buy()).outcome == Outcome.SOLD_OUT
        assert len(self.new_buyers.history.promised) == UNITS
        reader = self.cluster.reader
        assert not await reader.violations(self.sku, self.new_buyers.history)

    async def old_attempts(self, count: int) -> list[Attempt]:
        """Attempts of new buyers at the old one."""
        return [await self.old_buyers.attempt() for _ in range(count)]


MakeSplit: TypeAlias = Callable[..., AbstractAsyncContextManager[Split]]


@pytest.fixture
def split(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_valkey: ValkeyServer,
    tmp_path: Path,
) -> MakeSplit:
    """Return what opens a split: 30 buyers have bought, the new one replicates the old one."""

    @asynccontextmanager
    async def make(**settings: str) -> AsyncIterator[Split]:
        with ValkeyServer(tmp_path / "standby") as standby:
            async with (
                redis.asyncio.Redis.from_url(own_valkey.url) as old,
                redis.asyncio.Redis.from_url(standby.url) as new,
                FaultProxy(LOOPBACK, own_valkey.port).running() as link,
                FaultProxy(LOOPBACK, own_valkey.port).running() as address,
                make_cluster(replace(own_stores, redis_url=standby.url)) as cluster,
            ):
                await new.replicaof(LOOPBACK, link.port)
                url = f"redis://{LOOPBACK}:{address.port}/0"
                await cluster.start("order", "rollback", redis_url=url)
                await cluster.start(
                    OLD, redis_url=own_valkey.url, inventory_store_lease_s=LEASE_S, **settings
                )
                sku = await cluster.open_sale(sale_terms(units=UNITS))
                buyers = make_buyers(cluster, sku)
                later = make_buyers(cluster, sku, NEW)
                later.history = buyers.history
                made = Split(old, new, standby.port, link, address, cluster, sku, buyers, later)
                told = await buyers.arrive(FIRST)
                assert {one.outcome for one in told} == {Outcome.RESERVED}
                # The new one is looked at: it has all of it, and what came of it.
                assert not await cluster.reader.violations(sku, buyers.history)
                await eventually(made.replicated)
                yield made

    return make


async def test_clients_that_stay_on_the_old_primary_are_promised_nothing(
    split: MakeSplit,
) -> None:
    """It runs on with all its data, and its inventory is not ready any more."""
    async with split() as stores:
        await stores.promote()
        await stores.sell_out()
        await until_health(stores.cluster.address(OLD), NOT_SERVING)
        assert await stores.cluster.metric(OLD, "seckill_store_fenced") == 1
        assert await stores.cluster.metric(NEW, "seckill_store_generation") == 2


async def test_with_wait_a_failover_during_held_replication_rejects_nobody(
    split: MakeSplit,
) -> None:
    """What no replica has confirmed was promised to nobody, and becomes no order either."""
    wait = {"inventory_wait_replicas": "1", "inventory_wait_timeout_ms": "100"}
    async with split(**wait) as stores:
        stores.link.requests.clear()
        stores.link.replies.clear()
        held = await stores.old_attempts(10)
        assert {attempt.outcome for attempt in held} == {None}
        await stores.promote()
        await stores.sell_out()


async def test_an_inventory_that_was_frozen_promises_nothing_by_the_old_primary(
    split: MakeSplit,
) -> None:
    """It wakes up with calls waiting, before it can have been told anything."""
    async with split() as stores:
        stores.cluster.freeze(OLD)
        waiting = [
            asyncio.create_task(stores.old_buyers.attempt(timeout_s=60)) for _ in range(LATER)
        ]
        await stores.promote()
        sold = await stores.new_buyers.arrive(10)
        stores.cluster.thaw(OLD)
        assert {told.outcome for told in await asyncio.gather(*waiting)} == {None}
        assert {told.outcome for told in sold} == {Outcome.RESERVED}


async def test_a_stale_primary_that_is_all_there_is_is_rebuilt(split: MakeSplit) -> None:
    """Nobody uses the new one any more: what it sold is not sold again, and no human is needed."""
    async with split() as stores:
        await stores.promote()
        sold = await stores.new_buyers.arrive(10)
        assert {told.outcome for told in sold} == {Outcome.RESERVED}
        assert not await stores.cluster.reader.violations(stores.sku, stores.new_buyers.history)
        await stores.cluster.terminate(NEW)
        await until_health(stores.cluster.address(OLD), SERVING, timeout_s=60)
        # Its sale was closed as stale, and is rebuilt beside.
        await eventually(stores.is_loaded_in_the_old_one)
        told = await stores.old_buyers.arrive(UNITS - FIRST - len(sold))
        assert {one.outcome for one in told} == {Outcome.RESERVED}
        assert (await stores.old_buyers.buy()).outcome == Outcome.SOLD_OUT


@one_server
async def test_the_redis_of_another_mesh_is_left_alone(
    make_cluster: MakeCluster, own_stores: Stores
) -> None:
    """Its key names the other mesh: nothing is sold, and nothing is written over."""
    async with (
        redis.asyncio.Redis.from_url(own_stores.redis_url) as client,
        make_cluster(own_stores) as cluster,
    ):
        await client.set(mesh_key(), "other")
        await cluster.start("order")
        await cluster.launch("inventory", inventory_store_lease_s=LEASE_S)
        assert "another mesh (other)" in await cluster.logged(
            "inventory", "belongs to another mesh (other)"
        )
        await until_health(cluster.address("inventory"), NOT_SERVING)
        assert await client.mget(mesh_key(), generation_key()) == [b"other", None]
        # Left over from a mesh that is gone: an operator says so.
        await client.delete(mesh_key())
        await until_health(cluster.address("inventory"), SERVING)
        assert await client.get(mesh_key()) != b"other"
