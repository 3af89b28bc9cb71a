"""A store may lose what it acknowledges: the service stays alive, and takes no calls."""

from dataclasses import replace

from devstack import Stores, ValkeyServer
from seckill.runtime.server import LIVE
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeCluster
from tests.kits.health import NOT_SERVING, SERVING, until_health


async def test_a_redis_that_evicts_keeps_inventory_from_getting_ready(
    make_cluster: MakeCluster, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Inventory becomes ready once the setting is right, and unready once it is wrong again."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        redis = cluster.reader.redis
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await cluster.launch("inventory", inventory_configuration_interval_s="0.2")
        await cluster.logged("inventory", "maxmemory-policy is allkeys-lru")
        address = cluster.address("inventory")
        await until_health(address, NOT_SERVING)
        await until_health(address, SERVING, of=LIVE)
        await redis.config_set("maxmemory-policy", "noeviction")
        await until_health(address, SERVING)
        await redis.config_set("maxmemory-policy", "volatile-ttl")
        await until_health(address, NOT_SERVING)


async def test_a_database_that_does_not_wait_for_its_disk_keeps_order_from_getting_ready(
    cluster: Cluster,
) -> None:
    """With synchronous_commit = off a crash could lose orders whose buyers were told of them."""
    name = await cluster.reader.sql.fetchval("SELECT current_database()")
    await cluster.reader.sql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await cluster.launch("order")
    await cluster.logged("order", "synchronous_commit is off")
    await until_health(cluster.address("order"), NOT_SERVING)
    await until_health(cluster.address("order"), SERVING, of=LIVE)
