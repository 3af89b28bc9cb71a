"""Fixtures: clusters and their buyers, a proxy in front of Redis, stores that tests may kill."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from devstack import KafkaServer, PostgresServer, Stores, ValkeyServer, create_topics
from order_svc.db.migrate import migrate
from tests.kits.factories import new_id
from tests.kits.faults.buyers import Buyers, at_inventory
from tests.kits.faults.cluster import Cluster, events_topic
from tests.kits.faults.proxy import FaultProxy
from tests.kits.faults.reading import open_reader
from tests.kits.stores import ORDERS_PARTITIONS, Topics

MakeCluster: TypeAlias = Callable[[Stores], AbstractAsyncContextManager[Cluster]]
MakeBuyers: TypeAlias = Callable[..., Buyers]


def redis_address(url: str) -> tuple[str, int]:
    """Return (host, port) of a redis:// address."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
    return host, int(port)


@pytest.fixture
async def redis_proxy(stores: Stores) -> AsyncIterator[FaultProxy]:
    """Start a proxy between services and Valkey."""
    async with FaultProxy(*redis_address(stores.redis_url)).running() as proxy:
        yield proxy


@pytest.fixture
def own_stores(stores: Stores, redis_url: str, database_dsn: str) -> Stores:
    """Return databases of the test's own, on the servers that all tests share."""
    return replace(stores, redis_url=redis_url, postgres_dsn=database_dsn)


@pytest.fixture
def make_cluster(tmp_path: Path) -> MakeCluster:
    """Return what opens a cluster on given stores, with topics and a group of its own."""

    @asynccontextmanager
    async def make(stores: Stores) -> AsyncIterator[Cluster]:
        tag = new_id("cluster")
        topics = Topics(orders=f"orders-{tag}", dead_letters=f"dead-letters-{tag}")
        await create_topics(
            stores.kafka_bootstrap,
            {topics.orders: ORDERS_PARTITIONS, topics.dead_letters: 1, events_topic(tag): 1},
        )
        async with open_reader(stores, topics=topics, group=tag) as reader:
            cluster = Cluster(
                stores, topics=topics, group=tag, directory=tmp_path / tag, reader=reader
            )
            try:
                yield cluster
            finally:
                cluster.stop()

    return make


@pytest.fixture
async def cluster(make_cluster: MakeCluster, own_stores: Stores) -> AsyncIterator[Cluster]:
    """Open a cluster on the shared servers; no service runs yet."""
    async with make_cluster(own_stores) as made:
        yield made


@pytest.fixture
async def make_buyers() -> AsyncIterator[MakeBuyers]:
    """Return what makes buyers who buy at replicas of inventory_svc, by default the first."""
    async with AsyncExitStack() as channels:

        def make(cluster: Cluster, sku: str, *services: str, **options: float) -> Buyers:
            opened = [cluster.channel(service) for service in services or ("inventory",)]
            for channel in opened:
                channels.push_async_callback(channel.close)
            return at_inventory(opened, sku, **options)

        yield make


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Start a Valkey that the test may freeze, kill and damage."""
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Start a broker that the tests of a module may kill; each must leave it running."""
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="module")
async def own_postgres(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[PostgresServer]:
    """Start a migrated Postgres that the tests of a module may kill and must leave running."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        await migrate(server.url)
        yield server
