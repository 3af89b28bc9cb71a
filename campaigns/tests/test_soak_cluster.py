"""The Redis Cluster of a campaign: links of single services, and faults of one master."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from campaigns.soak.faults import FaultPlan
from campaigns.soak.redis_servers import FOLLOWED_FROM_S, RedisServers, durable_cluster
from devstack import ValkeyCluster
from seckill.errors import DependencyUnavailable
from seckill.runtime.redis_client import redis_faults
from seckill.runtime.redis_cluster import open_cluster
from seckill.runtime.store_settings import RedisSettings
from tests.kits.faults.proxy import ClusterProxy
from tests.kits.redis_cluster import sku_at, slot_of_sku

FAULT = FaultPlan(at_s=2.001, kind="kill store", target="redis")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Start a cluster as campaigns have it."""
    with durable_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def settings_of(proxy: ClusterProxy) -> RedisSettings:
    """Settings of a service that finds the cluster behind this proxy."""
    return RedisSettings(redis_url=SecretStr(proxy.url), redis_cluster=True, redis_timeout_s=1.0)


async def test_a_link_to_the_cluster_is_of_one_service(cluster: ValkeyCluster) -> None:
    """Each service reaches all masters by its own link, and that alone can be cut and mended."""
    keys = [f"{{{sku_at(cluster, master)}}}" for master in cluster.masters()]
    ports = [node.port for node in cluster.nodes]
    async with (
        ClusterProxy("127.0.2.1", ports).running() as link,
        ClusterProxy("127.0.2.2", ports).running() as other,
    ):
        assert isinstance(link, ClusterProxy)
        assert isinstance(other, ClusterProxy)
        async with (
            open_cluster(settings_of(link)) as client,
            open_cluster(settings_of(other)) as untouched,
        ):
            for key in keys:
                await client.set(key, "there")
            link.drop()
            for key in keys:
                with pytest.raises(DependencyUnavailable), redis_faults():
                    await client.get(key)
                assert await untouched.get(key) == b"there"
            link.heal()
            assert [await client.get(key) for key in keys] == [b"there"] * len(keys)


async def test_a_master_that_is_away_is_followed(cluster: ValkeyCluster) -> None:
    """The same fault hits the same master; a short absence does not wait for its replica, and
    healing brings all of them back.
    """
    servers = RedisServers(single=None, cluster=cluster)
    master = await servers.victim(FAULT)
    assert master is await servers.victim(FAULT)
    sku = sku_at(cluster, next(node for node in cluster.nodes if node is master))
    await asyncio.to_thread(master.kill)
    await servers.until_followed(master, away_s=0.0)
    await servers.until_followed(master, away_s=FOLLOWED_FROM_S)
    assert cluster.master_of(slot_of_sku(sku)) is not master
    await servers.heal()
    successor = cluster.master_of(slot_of_sku(sku))
    assert await servers.hand_over(successor) is master
    assert cluster.master_of(slot_of_sku(sku)) is master
