"""Looks that replicas answer, on a Valkey with a replica, and a Redis 6.2."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from devstack import Redis62Server, ValkeyServer
from seckill.runtime.read_settings import ReadSettings
from seckill.runtime.redis_reads import PrimaryReads
from tests.kits.factories import new_id
from tests.kits.redis_replica import ReplicatedRedis, reads_on, replicated_redis
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

# Those of a cluster are read in tests/cluster/test_cluster_reads.py.
pytestmark = one_server
# Oldest answer in milliseconds where a test cuts the replica off; and where none is cut off, so
# that a busy machine makes no replica too old.
SHORT_MS, LONG_MS = 1_000, 5_000
# Until a new process reads a replica: the list's age and the oldest answer, and what is slow.
READY_S = 40.0


@pytest.fixture(params=[ValkeyServer, Redis62Server])
async def servers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ReplicatedRedis]:
    """A primary and its replica."""
    async with replicated_redis(tmp_path, request.param) as both:
        yield both


async def value_of(reads: PrimaryReads, key: str) -> bytes | None:
    """What a replica says of a key."""
    found: bytes | None = (await reads.values([key])).replies[0]
    return found


async def until_read(reads: PrimaryReads, key: str, value: bytes) -> None:
    """Wait until a replica is asked, and has this value."""
    await eventually(lambda: value_of(reads, key), lambda seen: seen == value, timeout_s=READY_S)


async def until_not_read(reads: PrimaryReads, key: str) -> None:
    """Wait until no replica is asked."""
    await eventually(lambda: value_of(reads, key), lambda seen: seen is None)


async def test_the_primary_does_not_see_what_the_replica_answers(servers: ReplicatedRedis) -> None:
    """A thousand looks: all are on the replica's account, and none on the primary's."""
    key, other = new_id("key"), new_id("key")
    await servers.on_primary.set(key, "value")
    async with servers.reads(redis_read_staleness_ms=LONG_MS) as reads:
        await until_read(reads, key, b"value")
        before = await reads_on(servers.on_primary), await reads_on(servers.on_replica)
        for _ in range(1_000):
            answer = await reads.values([key, other])
            assert answer.replies == [b"value", None]
            assert 0 < answer.age_s <= 5
        after = await reads_on(servers.on_primary), await reads_on(servers.on_replica)
    assert after[0] == before[0]
    assert after[1] >= before[1] + 2_000


async def test_an_age_is_never_less_than_it_was_and_an_old_replica_is_not_asked(
    servers: ReplicatedRedis,
) -> None:
    """Cut off without either side noticing: it answers, but tells no news."""
    key = new_id("key")
    await servers.on_primary.set(key, "old")
    async with servers.reads(redis_read_staleness_ms=SHORT_MS) as reads:
        await until_read(reads, key, b"old")
        servers.link.requests.clear()
        servers.link.replies.clear()
        changed_s = time.monotonic()
        await servers.on_primary.set(key, "new")
        while (answer := await reads.values([key])).replies[0] is not None:
            assert answer.replies == [b"old"]
            assert time.monotonic() - changed_s < 20
            assert answer.age_s <= SHORT_MS / 1000
            assert answer.age_s > 0
            oldest_s = time.monotonic() - changed_s - answer.age_s
            # What has passed between the reply and now, on a busy machine.
            assert oldest_s < 0.5
        assert await servers.on_replica.get(key) == b"old"
        servers.link.heal()
        await until_read(reads, key, b"new")


async def test_a_change_is_confirmed_once_every_replica_that_is_read_has_it(
    servers: ReplicatedRedis,
) -> None:
    """Replication takes a while; another process, which knows of no change, shows it too."""
    key = new_id("key")
    await servers.on_primary.set(key, 0)
    async with (
        servers.reads(redis_read_staleness_ms=LONG_MS) as writer,
        servers.reads(redis_read_staleness_ms=LONG_MS) as reader,
    ):
        await until_read(writer, key, b"0")
        await until_read(reader, key, b"0")
        servers.link.delay_s = 0.05
        for number in range(1, 11):
            await servers.on_primary.set(key, number)
            await writer.confirm([key])
            assert await value_of(reader, key) in (b"%d" % number, None)


async def test_a_replica_that_does_not_follow_holds_a_change_up_for_the_oldest_age(
    servers: ReplicatedRedis,
) -> None:
    """Then it is too old to be read by anybody."""
    key = new_id("key")
    await servers.on_primary.set(key, "old")
    async with (
        servers.reads(redis_read_staleness_ms=SHORT_MS) as writer,
        servers.reads(redis_read_staleness_ms=SHORT_MS) as reader,
    ):
        await until_read(writer, key, b"old")
        await until_read(reader, key, b"old")
        servers.link.requests.clear()
        servers.link.replies.clear()
        await servers.on_primary.set(key, "new")
        started_s = time.monotonic()
        async with asyncio.timeout(20):
            await writer.confirm([key])
        assert time.monotonic() - started_s >= 0.9 * SHORT_MS / 1000
        assert await value_of(reader, key) is None
        servers.link.heal()


async def test_a_process_that_does_not_know_the_replicas_yet_confirms_nothing_early(
    servers: ReplicatedRedis,
) -> None:
    """Others may read one that it will only hear of."""
    key = new_id("key")
    await servers.on_primary.set(key, "value")
    async with servers.reads(redis_read_staleness_ms=SHORT_MS) as reads:
        started_s = time.monotonic()
        await reads.confirm([key])
        assert time.monotonic() - started_s >= 0.9 * SHORT_MS / 1000


async def test_a_replica_that_was_promoted_follows_another_or_is_gone_is_not_asked(
    servers: ReplicatedRedis, tmp_path: Path
) -> None:
    """No caller fails for it, and it is asked again once it follows the primary."""
    key = new_id("key")
    await servers.on_primary.set(key, "value")
    with ValkeyServer(tmp_path / "other") as other:
        async with servers.reads(redis_read_staleness_ms=SHORT_MS) as reads:
            await until_read(reads, key, b"value")
            await servers.on_replica.replicaof("NO", "ONE")
            await servers.on_replica.set(key, "promoted")
            await until_not_read(reads, key)
            if isinstance(servers.replica, Redis62Server):
                # It does not read what the other has written to its file.
                await servers.on_replica.replicaof("127.0.0.1", 1)
            else:
                await servers.on_replica.replicaof("127.0.0.1", other.port)
            assert await value_of(reads, key) is None
            await servers.on_replica.replicaof("127.0.0.1", servers.link.port)
            await until_read(reads, key, b"value")
            await asyncio.to_thread(servers.replica.stop)
            await until_not_read(reads, key)


async def test_replicas_may_be_named(servers: ReplicatedRedis) -> None:
    """Then they are read at once, and the primary is not asked who they are."""
    key = new_id("key")
    await servers.on_primary.set(key, "value")
    named = f"127.0.0.1:{servers.replica.port}"
    async with servers.reads(redis_replicas=named, redis_read_staleness_ms=LONG_MS) as reads:
        await until_read(reads, key, b"value")
    assert await reads_on(servers.on_primary, "role") == 0


async def test_by_default_no_replica_is_asked(servers: ReplicatedRedis) -> None:
    """And nothing is written for it."""
    async with servers.reads(redis_read_from="primary") as reads:
        await reads.confirm(["key"])
        assert (await reads.values(["key"])).replies == [None]
        assert (await reads.read([("HGETALL", "key")])).replies == [None]
    assert not await servers.on_primary.keys("seckill:beat*")


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("SECKILL_REDIS_READ_FROM", {"redis_read_from": "secondary"}),
        ("SECKILL_REDIS_READ_STALENESS_MS", {"redis_read_staleness_ms": 10}),
        ("SECKILL_REDIS_REPLICAS", {"redis_replicas": "redis://a:1"}),
        ("SECKILL_REDIS_REPLICAS", {"redis_replicas": "a:1", "redis_cluster": True}),
        (
            "SECKILL_REDIS_READ_FROM",
            {"redis_read_from": "replica", "redis_url": "unix:///run/redis.sock"},
        ),
    ],
)
def test_a_wrong_setting_is_named(variable: str, values: dict[str, object]) -> None:
    """Before anything is opened."""
    with pytest.raises(ValidationError) as refused:
        ReadSettings.model_validate({"redis_url": "redis://127.0.0.1:1"} | values)
    places = [
        "SECKILL_" + str(part).upper() for one in refused.value.errors() for part in one["loc"]
    ]
    assert variable in places or variable in str(refused.value)
