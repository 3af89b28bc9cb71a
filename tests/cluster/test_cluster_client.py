"""Commands to a Redis Cluster: each to the owner of its slot, also while slots move."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import ClusterCrossSlotError, ResponseError

from devstack import ValkeyCluster
from devstack.slot_move import SlotMove
from seckill.errors import DependencyUnavailable
from seckill.runtime.delay import DelaySet, delay_keys
from seckill.runtime.redis_client import (
    check_writable,
    keys_by_server,
    open_redis,
    redis_faults,
    send_all,
    server_of,
    servers_of,
)
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_slots import slot_of
from seckill.runtime.store_settings import RedisSettings
from tests.kits.factories import new_id
from tests.kits.stores import one_server

KEYS = [f"key-{number}" for number in range(60)]


@pytest.fixture
async def client(redis_cluster: ValkeyCluster) -> AsyncIterator[ClusterRedis]:
    """With two connections to each node."""
    settings = RedisSettings(
        redis_url=SecretStr(redis_cluster.url), redis_cluster=True, redis_connections_max=2
    )
    async with open_redis(settings) as opened:
        assert isinstance(opened, ClusterRedis)
        yield opened


async def test_commands_reach_the_owners_of_their_slots(client: ClusterRedis) -> None:
    """Sent one by one, together, and in a pipeline: replies come in the order of the commands."""
    assert await send_all(client, [("SET", key, key) for key in KEYS]) == [b"OK"] * len(KEYS)
    assert await client.mget(KEYS) == [key.encode() for key in KEYS]
    assert await client.get(KEYS[0]) == KEYS[0].encode()
    pipeline = client.pipeline(transaction=False)
    for key in KEYS:
        pipeline.strlen(key)
        pipeline.exists(key)
    lengths = await pipeline.execute()
    assert lengths[0::2] == [len(key) for key in KEYS]
    assert lengths[1::2] == [1] * len(KEYS)
    assert len(await servers_of(client)) == 3
    groups = await keys_by_server(client, KEYS)
    assert sorted(key for group in groups for key in group) == sorted(KEYS)


async def test_keys_of_several_slots_are_refused_before_they_are_sent(
    client: ClusterRedis,
) -> None:
    """No command of ours names two slots, and none ever gets as far as the server."""
    with pytest.raises(ClusterCrossSlotError):
        await client.delete(*KEYS)
    with pytest.raises(ClusterCrossSlotError):
        await send_all(client, [("EVALSHA", "0" * 40, 2, KEYS[0], KEYS[1])])


async def test_a_transaction_is_of_the_server_that_has_its_keys(client: ClusterRedis) -> None:
    """The keys of one hash tag are on one server, whose transaction is one."""
    first, second = "first:{tag}", "second:{tag}"
    server: Any = await server_of(client, first, second)
    async with server.pipeline(transaction=True) as pipeline:
        await pipeline.watch(first, second)
        pipeline.multi()
        pipeline.incr(first)
        pipeline.incr(second)
        assert await pipeline.execute() == [1, 1]


async def test_a_script_is_loaded_wherever_its_keys_are(client: ClusterRedis) -> None:
    """Each node has to be told of it; the sets of different slots are of different nodes."""
    sets = [DelaySet(client, key=key) for key in KEYS[:20]]
    for one in sets:
        await one.add({"order": 1.0})
    for one in sets:
        claim = await one.claim(limit=10, lease_s=60)
        assert claim.order_nos == ["order"]


async def test_a_delay_set_of_several_shards_is_one(client: ClusterRedis) -> None:
    """Orders are spread over nodes; they are claimed, counted and removed as if they were not."""
    delay = DelaySet(client, shards=6)
    numbers = [new_id("order") for _ in range(60)]
    await delay.add(dict.fromkeys(numbers, 1.0))
    spread = [await client.zcard(key) for key in delay_keys(6)]
    assert sum(spread) == 60
    assert sum(count > 0 for count in spread) > 1
    assert await delay.counts(now_s=2.0) == (60, 60)
    first = await delay.claim(limit=40, lease_s=60)
    second = await delay.claim(limit=40, lease_s=60)
    assert len(first.order_nos) == 40
    assert sorted(first.order_nos + second.order_nos) == sorted(numbers)
    assert await delay.those_in(numbers) == numbers
    await delay.remove(numbers)
    assert await delay.counts(now_s=2.0) == (0, 0)


async def test_more_commands_than_connections_wait_for_one(client: ClusterRedis) -> None:
    """A hundred at once over two connections to each node: none fails."""
    await asyncio.gather(*(client.set(new_id("key"), b"") for _ in range(100)))


@pytest.mark.parametrize("moved", [0, 1, 3])
async def test_keys_are_found_while_their_slot_moves(
    client: ClusterRedis, redis_cluster: ValkeyCluster, moved: int
) -> None:
    """With none, some and all of them at the new owner: it is asked although it owns nothing."""
    tag = new_id("tag")
    keys = [f"{number}:{{{tag}}}" for number in range(3)]
    await send_all(client, [("SET", key, key) for key in keys])
    move = SlotMove(redis_cluster, slot_of(keys))
    move.begin()
    assert move.move_keys(most=moved) == moved
    for key in keys:
        assert await client.get(key) == key.encode()
    # One that is nowhere yet is made where all of them will be.
    assert await client.set(f"new:{{{tag}}}", b"new") is True
    move.move_keys()
    move.end()
    assert await client.mget([*keys, f"new:{{{tag}}}"]) == [*(k.encode() for k in keys), b"new"]
    assert (await server_of(client, *keys)).connection_pool.connection_kwargs["port"] == (
        move.target.port
    )


async def test_a_refused_command_is_told_and_stops_no_other(client: ClusterRedis) -> None:
    """The others run, whichever node has them."""
    with pytest.raises(ResponseError):
        await send_all(client, [("SET", KEYS[0], "x"), ("INCR", KEYS[0]), ("SET", KEYS[1], "y")])
    assert await client.mget(KEYS[:2]) == [b"x", b"y"]


@one_server
async def test_a_server_on_its_own_is_no_cluster(redis_url: str) -> None:
    """It is told by the name of the setting."""
    url = redis_url.rpartition("/")[0]
    settings = RedisSettings(redis_url=SecretStr(url), redis_cluster=True)
    async with open_redis(settings) as client:
        with pytest.raises(DependencyUnavailable, match="SECKILL_REDIS_CLUSTER must be false"):
            await check_writable(client)


async def test_a_node_of_a_cluster_is_no_server_on_its_own(redis_cluster: ValkeyCluster) -> None:
    """Each of them is refused, also the one that would have taken the probe."""
    for node in redis_cluster.masters():
        url = SecretStr(f"redis://{node.address}")
        settings = RedisSettings(redis_url=url, redis_cluster=False)
        async with open_redis(settings) as client:
            with pytest.raises(DependencyUnavailable, match="SECKILL_REDIS_CLUSTER must be true"):
                await check_writable(client)


async def test_a_cluster_of_one_node_needs_the_setting_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It owns all slots, so no answer gives it away: it is asked what it is."""
    with ValkeyCluster(tmp_path_factory.mktemp("alone"), shards=1, replicas=0) as alone:
        settings = RedisSettings(redis_url=SecretStr(alone.url), redis_cluster=False)
        async with open_redis(settings) as client:
            with pytest.raises(DependencyUnavailable, match="SECKILL_REDIS_CLUSTER must be true"):
                await check_writable(client)


async def test_a_node_that_is_down_fails_its_own_keys_alone(
    client: ClusterRedis, redis_cluster: ValkeyCluster
) -> None:
    """The other masters answer, in the same pipeline and in the next."""
    await send_all(client, [("SET", key, key) for key in KEYS])
    dead = redis_cluster.masters()[0]
    theirs = {key for key in KEYS if redis_cluster.master_of(slot_of([key])) is dead}
    await asyncio.to_thread(dead.kill)
    pipeline = client.pipeline(transaction=False)
    for key in KEYS:
        pipeline.get(key)
    replies = await pipeline.execute(raise_on_error=False)
    for key, reply in zip(KEYS, replies, strict=True):
        if key in theirs:
            assert isinstance(reply, Exception) or reply == key.encode()
        else:
            assert reply == key.encode()
    with redis_faults():
        await check_writable(client)


async def test_a_promoted_replica_is_found(
    client: ClusterRedis, redis_cluster: ValkeyCluster
) -> None:
    """A client that had its master's address gets its keys from the new one."""
    await client.set(KEYS[0], b"kept")
    dead = redis_cluster.master_of(slot_of(KEYS[:1]))
    server = await server_of(client, KEYS[0])
    pipeline = server.pipeline(transaction=False)
    pipeline.set(KEYS[0], b"kept")
    pipeline.execute_command("WAIT", 1, 1_000)
    assert (await pipeline.execute())[1] == 1
    await asyncio.to_thread(dead.kill)
    async with asyncio.timeout(30):
        while True:
            try:
                with redis_faults():
                    assert await client.get(KEYS[0]) == b"kept"
                break
            except DependencyUnavailable:
                await asyncio.sleep(0.05)
    assert redis_cluster.master_of(slot_of(KEYS[:1])) is not dead


async def test_a_lookup_of_owners_that_is_broken_off_leaves_nothing_behind(
    client: ClusterRedis,
) -> None:
    """A call that runs out of time, or a process that ends: no node is still being asked, whose
    error nobody would hear.
    """
    before = asyncio.all_tasks()
    looking = asyncio.create_task(client.slots.known())
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before > {looking}
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert looking.cancelled()
    assert asyncio.all_tasks() == before
