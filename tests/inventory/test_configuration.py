"""A service is not ready while a store may lose what it has acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from devstack import Stores, ValkeyServer, create_topics
from inventory_svc.durability import unsafe_kafka_settings, unsafe_redis_settings
from order_svc.db.database import open_database
from order_svc.db.durability import unsafe_settings
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.safety import ConfigurationCheck, UnsafeConfiguration
from tests.kits.factories import new_id
from tests.kits.stores import Topics
from tests.kits.waiting import eventually


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator["redis.asyncio.Redis"]:
    """A server of the test's own."""
    with ValkeyServer(tmp_path / "valkey") as server:
        async with redis.asyncio.Redis.from_url(server.url) as opened:
            yield opened


@asynccontextmanager
async def looking(check: ConfigurationCheck) -> AsyncIterator[None]:
    """The check at work, as its service runs it."""
    task = asyncio.create_task(check.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def verdict(check: ConfigurationCheck) -> str:
    """Return why it is not ready; "" if it is."""
    try:
        await check.check()
    except UnsafeConfiguration as error:
        return str(error)
    return ""


async def test_redis_that_evicts_makes_the_service_unready_until_it_does_not(
    client: "redis.asyncio.Redis",
) -> None:
    """The setting is named with its value; put right, readiness returns by itself."""
    check = ConfigurationCheck(
        "redis", lambda: unsafe_redis_settings(client, production=False), interval_s=0.05
    )
    async with looking(check):
        await eventually(lambda: verdict(check), lambda said: not said)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        said = await eventually(lambda: verdict(check))
        assert said == "redis: maxmemory-policy is allkeys-lru, and must be noeviction"
        await client.config_set("maxmemory-policy", "noeviction")
        await eventually(lambda: verdict(check), lambda said: not said)


async def test_append_only_file_is_demanded_in_production(client: "redis.asyncio.Redis") -> None:
    """A development Redis may do without."""
    await client.config_set("appendonly", "no")
    assert await unsafe_redis_settings(client, production=False) == []
    (problem,) = await unsafe_redis_settings(client, production=True) or ()
    assert problem.startswith("appendonly is no")


async def test_redis_that_does_not_let_us_look_is_taken_for_safe(
    client: "redis.asyncio.Redis",
) -> None:
    """As managed ones do: a metric and a warning, no refusal."""
    await client.acl_setuser("default", commands=["-config"])
    assert await unsafe_redis_settings(client, production=True) is None
    hidden = asyncio.Event()
    check = ConfigurationCheck(
        "redis",
        lambda: unsafe_redis_settings(client, production=True),
        interval_s=60.0,
        hidden=hidden.set,
    )
    async with looking(check):
        await asyncio.wait_for(hidden.wait(), 20)
        assert await verdict(check) == ""


async def test_topic_that_may_lose_or_refuse_reservations_is_unsafe(
    stores: Stores, topics: Topics
) -> None:
    """The local broker is one; a topic's settings are named with their values."""
    (problem,) = (
        await unsafe_kafka_settings(KafkaCluster(stores.kafka_bootstrap), topic=topics.orders) or ()
    )
    assert problem.startswith(f"min.insync.replicas of {topics.orders} is 1")
    unclean = new_id("topic")
    await create_topics(
        stores.kafka_bootstrap,
        {unclean: 1},
        {
            unclean: {
                "min.insync.replicas": "2",
                "unclean.leader.election.enable": "true",
                "max.message.bytes": "500",
            }
        },
    )
    problems = await unsafe_kafka_settings(KafkaCluster(stores.kafka_bootstrap), topic=unclean)
    assert problems == [
        f"max.message.bytes of {unclean} is 500, and must be 1024",
        f"unclean.leader.election.enable of {unclean} is true",
    ]


async def test_database_that_does_not_wait_for_the_disk_is_unsafe(
    database_dsn: str, stores: Stores
) -> None:
    """synchronous_commit is looked at as the service's own connections have it."""
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": database_dsn,
            "redis_url": "redis://unused",
            "kafka_bootstrap": stores.kafka_bootstrap,
        }
    )
    async with open_database(settings) as database:
        assert await unsafe_settings(database) == []
    name = database_dsn.rpartition("/")[2]
    sql = await asyncpg.connect(database_dsn)
    await sql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await sql.close()
    async with open_database(settings) as database:
        assert await unsafe_settings(database) == ["synchronous_commit is off"]


async def test_store_that_is_away_does_not_decide() -> None:
    """Whether it must answer is another check's matter: the outbox is there for such a time."""

    async def away() -> None:
        raise DependencyUnavailable

    check = ConfigurationCheck("kafka", away, interval_s=0.05)
    assert await verdict(check) == "kafka: not looked at yet"
    async with looking(check):
        await eventually(lambda: verdict(check), lambda said: not said)
