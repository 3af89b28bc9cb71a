"""Looks that the replicas of a Redis Cluster answer: 3 masters, each with a replica."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from devstack import ValkeyCluster
from devstack.slot_move import SlotMove
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.redis_client import open_redis, send_all
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.redis_reads import PrimaryReads, open_reads
from seckill.runtime.redis_slots import slot_of
from tests.kits.waiting import eventually

KEYS = [f"order:{{{number}}}" for number in range(60)]
VALUES = [key.encode() for key in KEYS]
# For one try to write to a shard that fails over.
WRITE_S = 2.0
READY_S = 60.0


@asynccontextmanager
async def opened(
    cluster: ValkeyCluster, *, oldest_ms: int = 5_000
) -> AsyncIterator[tuple[ClusterRedis, PrimaryReads]]:
    """A client of the cluster, and what a process reads by."""
    settings = ReadSettings(
        redis_url=SecretStr(cluster.url),
        redis_cluster=True,
        redis_read_from="replica",
        redis_read_staleness_ms=oldest_ms,
        redis_timeout_s=10.0,
    )
    async with open_redis(settings) as client, open_reads(client, settings) as reads:
        assert isinstance(client, ClusterRedis)
        await send_all(client, [("SET", key, key) for key in KEYS])
        await until_all_are_read(reads)
        yield client, reads


async def until_all_are_read(reads: PrimaryReads) -> None:
    """Wait until the replicas of all shards answer."""
    await eventually(
        lambda: reads.values(KEYS), lambda told: told.replies == VALUES, timeout_s=READY_S
    )


def gets_on_masters(cluster: ValkeyCluster) -> int:
    """How many keys masters have been asked for: of ours, and of each process' own beat."""
    calls = 0
    for master in cluster.masters():
        with master.client() as client:
            stats: Any = client.info("commandstats")
        calls += stats.get("cmdstat_get", {"calls": 0})["calls"]
    return calls


async def test_masters_do_not_see_what_their_replicas_answer(redis_cluster: ValkeyCluster) -> None:
    """Keys in the slots of all three: each replica answers for its own master, by one pipeline."""
    async with opened(redis_cluster) as (_, reads):
        before = await asyncio.to_thread(gets_on_masters, redis_cluster)
        for _ in range(100):
            answer = await reads.values(KEYS)
            assert answer.replies == VALUES
            assert 0 < answer.age_s <= 5
        assert await asyncio.to_thread(gets_on_masters, redis_cluster) == before


async def test_a_change_in_each_shard_is_confirmed(redis_cluster: ValkeyCluster) -> None:
    """Another process is told of it, or asks the primary."""
    async with opened(redis_cluster) as (client, writer), opened(redis_cluster) as (_, reader):
        await until_all_are_read(writer)
        for number in range(1, 6):
            await send_all(client, [("SET", key, number) for key in KEYS])
            await writer.confirm(KEYS)
            told = (await reader.values(KEYS)).replies
            assert set(told) <= {b"%d" % number, None}


async def test_a_master_fails_over_and_the_others_replicas_are_read(
    redis_cluster: ValkeyCluster,
) -> None:
    """No look fails; the promoted replica is a master now, and answers as one."""
    async with opened(redis_cluster, oldest_ms=2_000) as (client, reads):
        # Who does not follow its master does not take its place.
        await until_all_are_read(reads)
        failed = redis_cluster.master_of(slot_of([KEYS[0]]))
        await asyncio.to_thread(failed.stop)

        async def is_written() -> bool:
            try:
                async with asyncio.timeout(WRITE_S):
                    return await send_all(client, [("SET", KEYS[0], "new")]) == [b"OK"]
            except Exception:  # noqa: BLE001 - it is on its way
                return False

        async def look() -> bool:
            told = (await reads.values(KEYS)).replies
            assert all(one in (None, value) for one, value in zip(told, VALUES, strict=True))
            return await is_written()

        await eventually(look, timeout_s=READY_S)
        # It has no replica now.
        assert (await reads.values([KEYS[0]])).replies in ([None], [b"new"])
        await asyncio.to_thread(failed.start)
        await eventually(
            lambda: reads.values([KEYS[0]]),
            lambda told: told.replies == [b"new"],
            timeout_s=READY_S,
        )


async def test_keys_of_a_slot_that_has_moved_are_read_where_they_are(
    redis_cluster: ValkeyCluster,
) -> None:
    """The replica of the old owner sends us on, and the primary is asked meanwhile."""
    async with opened(redis_cluster) as (client, reads):
        move = await asyncio.to_thread(SlotMove, redis_cluster, slot_of([KEYS[0]]))
        await asyncio.to_thread(move.at_once)
        await asyncio.to_thread(move.wait, timeout_s=READY_S)
        await client.set(KEYS[0], "moved")
        await reads.confirm([KEYS[0]])
        assert (await reads.values([KEYS[0]])).replies in ([None], [b"moved"])
        await eventually(
            lambda: reads.values([KEYS[0]]),
            lambda told: told.replies == [b"moved"],
            timeout_s=READY_S,
        )
