"""Two meshes on one Kafka: the second one notices, and takes nothing from the first."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from devstack import Stores
from inventory_svc.keys import mesh_key
from seckill.errors import SeckillError
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.redis_slots import tag_of
from seckill.runtime.topic_claims import TopicClaims
from tests.kits.factories import sale_terms
from tests.kits.relay import RelayKit, numbers
from tests.kits.stores import IS_CLUSTER, Topics

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0


@pytest.fixture
def claims(stores: Stores, topics: Topics) -> TopicClaims:
    """Return the claims to the test's topics."""
    return TopicClaims(KafkaCluster(stores.kafka_bootstrap), topics.orders, topics.dead_letters)


@pytest.fixture
async def kit(redis_url: str, stores: Stores, topics: Topics) -> AsyncIterator[RelayKit]:
    """Stock and relays on the shared servers."""
    kit = RelayKit(redis_url, stores.kafka_bootstrap, topics)
    yield kit
    await kit.close()


@asynccontextmanager
async def order_service(
    stores: Stores, *, dsn: str, redis_url: str, topics: Topics
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of the order service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "order_svc"),
        env={
            **os.environ,
            "SECKILL_POSTGRES_DSN": dsn,
            "SECKILL_REDIS_URL": redis_url,
            "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
            "SECKILL_ORDERS_TOPIC": topics.orders,
            "SECKILL_DEAD_LETTER_TOPIC": topics.dead_letters,
            "SECKILL_ORDER_CONSUMER_GROUP": topics.orders,
            "SECKILL_ORDER_LISTEN": "127.0.0.1:0",
            "SECKILL_ORDER_METRICS_LISTEN": "127.0.0.1:0",
            "SECKILL_LOG_FORMAT": "json",
        },
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


async def line_with(process: asyncio.subprocess.Process, text: str) -> str:
    """Return the next line of its log that has this text."""
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"the process ended before it said {text!r}")


async def test_a_topic_is_the_first_ones_until_its_claim_is_deleted(claims: TopicClaims) -> None:
    """Claiming again changes nothing; what another mesh reads names the owner and the remedy."""
    assert list(await claims.foreign("b")) == []
    assert list(await claims.claim("a")) == []
    assert list(await claims.claim("a")) == []
    problems = await claims.claim("b")
    assert len(problems) == 2
    assert all("another mesh (a)" in problem for problem in problems)
    assert list(await claims.foreign("a")) == []


async def test_the_order_service_of_a_second_mesh_is_not_ready_and_reads_nothing(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, claims: TopicClaims
) -> None:
    """It says whose the topic is; a consumer would have made orders of foreign reservations."""
    await claims.claim("the-first-mesh")
    async with order_service(
        stores, dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as process:
        said = await line_with(process, "topics belong to another mesh")
        assert topics.orders in said
        assert "the-first-mesh" in said
        await line_with(process, '"check": "kafka_topics"')


async def test_a_mesh_claims_what_is_free(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, claims: TopicClaims
) -> None:
    """In the name of its database, so a restart is no other mesh."""
    async with order_service(
        stores, dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as process:
        await line_with(process, '"ready": true')
    connection = await asyncpg.connect(database_dsn)
    mesh_id = await connection.fetchval("SELECT mesh_id FROM store_generation")
    await connection.close()
    assert list(await claims.foreign(mesh_id)) == []
    assert len(await claims.foreign("another")) == 2


async def test_the_relay_of_a_second_mesh_sends_nothing(kit: RelayKit, claims: TopicClaims) -> None:
    """Its reservations stay in the outbox until the topic is its own."""
    await claims.claim("the-first-mesh")
    # In a cluster all nodes keep it; relays ask the one that owns the first slot.
    own_mesh = mesh_key(tag_of(0) if IS_CLUSTER else "")
    await kit.redis.set(own_mesh, "the-second-mesh")
    sku = await kit.load(sale_terms(units=5))
    wanted = await kit.buy(sku, 5)
    relay = kit.relay()
    with pytest.raises(SeckillError, match="another mesh"):
        await relay.run_once()
    await kit.redis.set(own_mesh, "the-first-mesh")
    assert (await relay.run_once()).sent == 5
    assert numbers(await kit.arrived(5)) == wanted
