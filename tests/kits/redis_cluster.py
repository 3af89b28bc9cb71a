"""A Redis Cluster of 3 masters and 3 replicas, for the tests of a module."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from devstack import Stores, ValkeyCluster
from devstack.valkey_cluster import ClusterNode, facts_of
from inventory_svc.keys import sale_key
from seckill.runtime.redis_slots import slot_of
from tests.kits.factories import new_id
from tests.kits.waiting import eventually


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Start a cluster; its tests may fail over, and move slots, as they like."""
    with ValkeyCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture
async def redis_cluster(running_cluster: ValkeyCluster) -> ValkeyCluster:
    """Return the cluster, whole and empty."""
    for node in running_cluster.nodes:
        await asyncio.to_thread(node.start)
    await eventually(lambda: asyncio.to_thread(is_whole, running_cluster))
    for master in running_cluster.masters():
        with master.client() as client:
            client.flushall()
            client.config_resetstat()
    return running_cluster


@pytest.fixture
def cluster_stores(own_stores: Stores, redis_cluster: ValkeyCluster) -> Stores:
    """Return a database of the test's own, and the cluster in the place of Redis."""
    return replace(own_stores, redis_url=redis_cluster.url, redis_cluster=True)


def is_whole(cluster: ValkeyCluster) -> bool:
    """Return whether all nodes serve, and each of three masters has a replica in step with it."""
    if any(facts_of(node).get("cluster_state") != "ok" for node in cluster.nodes):
        return False
    masters = cluster.masters()
    for master in masters:
        with master.client() as client:
            facts: Any = client.info("replication")
        if int(facts["connected_slaves"]) < 1 or facts["slave0"]["state"] != "online":
            return False
    return len(masters) == 3


def sku_at(cluster: ValkeyCluster, node: ClusterNode) -> str:
    """Return a new sku whose sale this master has."""
    while True:
        sku = new_id("sku")
        if cluster.master_of(slot_of_sku(sku)) is node:
            return sku


def slot_of_sku(sku: str) -> int:
    """Return the slot of a sale's keys."""
    return slot_of([sale_key(sku)])


def crossed_slots(cluster: ValkeyCluster) -> Sequence[str]:
    """Return what each node says of commands that it has refused, as their keys were in several
    slots, since the cluster was emptied.
    """
    found = []
    for node in cluster.nodes:
        if node.running:
            with node.client() as client:
                stats: Any = client.info("errorstats")
            found += [f"{node.address}: {stats[name]}" for name in stats if "CROSSSLOT" in name]
    return found
