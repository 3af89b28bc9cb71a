"""Fixtures: real servers, started once on free ports, in a folder of their own.

Each test gets a Redis database, a Postgres database and Kafka topics of its own, so nothing has to
be cleaned up. The addresses in the environment are ignored on purpose: tests flush databases.
"""

import itertools
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import pytest
import redis
import redis.asyncio
from pydantic import SecretStr

from devstack import LocalSettings, LocalStack, Stores, ValkeyCluster, create_topics
from order_svc.db.migrate import migrate
from seckill.runtime.redis_cluster import ClusterRedis
from seckill.runtime.store_settings import RedisSettings

ORDERS_PARTITIONS = 4
# `make test REDIS=cluster`: a Redis Cluster for all tests but those that are about one server.
IS_CLUSTER = os.environ.get("SECKILL_TEST_REDIS") == "cluster"
if IS_CLUSTER:
    # For settings that are made in the test's own process.
    os.environ["SECKILL_REDIS_CLUSTER"] = "true"
# Fixtures of servers that are replaced, delayed, damaged or compared one by one.
ONE_SERVER = frozenset(
    (
        *("own_valkey", "redis_proxy", "server", "own_server", "own_redis", "bounded_valkey"),
        *("split", "replica"),
    )
)
_ABOUT_ONE = "is about one server, not about a cluster"
one_server = pytest.mark.skipif(IS_CLUSTER, reason=_ABOUT_ONE)
# Valkey has 16 databases; 0 is left alone.
_redis_databases = itertools.cycle(range(1, 16))


@dataclass(frozen=True)
class Topics:
    """Kafka topics of one test."""

    orders: str
    dead_letters: str


def with_database(dsn: str, name: str) -> str:
    """Return a DSN of another database on the same server."""
    return f"{dsn.rpartition('/')[0]}/{name}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests of one server out if Redis is a cluster."""
    for item in items if IS_CLUSTER else ():
        if ONE_SERVER.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=_ABOUT_ONE))


def client_of(url: str, *, connections_max: int = 64) -> "redis.asyncio.Redis":
    """Return a client of the Redis of `redis_url`, as services have it."""
    if IS_CLUSTER:
        return ClusterRedis(
            RedisSettings(redis_url=SecretStr(url), redis_connections_max=connections_max)
        )
    return redis.asyncio.Redis.from_url(url, max_connections=connections_max)


def blocking_client(stores: Stores) -> "redis.Redis":
    """Return a client that blocks, of all nodes if Redis is a cluster."""
    if not stores.redis_cluster:
        return redis.Redis.from_url(stores.redis_url)
    host, _, port = stores.redis_url.removeprefix("redis://").partition(",")[0].partition(":")
    client: Any = redis.RedisCluster(host=host, port=int(port))
    return cast("redis.Redis", client)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Start Postgres, Valkey and Kafka."""
    settings = LocalSettings(directory=tmp_path_factory.mktemp("stack"), cluster=IS_CLUSTER)
    with LocalStack(settings) as running:
        yield running


@pytest.fixture(scope="session")
def emptied_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Start a cluster that each test finds empty: it has no databases of which one could be."""
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def stores(stack: LocalStack) -> Stores:
    """Return the addresses of the three stores."""
    return stack.stores


@pytest.fixture
def redis_url(stores: Stores, request: pytest.FixtureRequest) -> str:
    """Empty a Redis database for this test, and return its URL."""
    if IS_CLUSTER:
        cluster: ValkeyCluster = request.getfixturevalue("emptied_cluster")
        for master in cluster.masters():
            with master.client() as node:
                node.flushall()
        return cluster.url
    url = f"{stores.redis_url.rstrip('/').removesuffix('/0')}/{next(_redis_databases)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
async def template_database(stores: Stores) -> str:
    """Create a migrated database that others are copied from, and return its name."""
    name = f"template_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(stores.postgres_dsn)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    await migrate(with_database(stores.postgres_dsn, name))
    return name


@pytest.fixture
async def database_dsn(stores: Stores, template_database: str) -> AsyncIterator[str]:
    """Create a migrated database for this test, and return its DSN."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(stores.postgres_dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield with_database(stores.postgres_dsn, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def topics(stores: Stores) -> Topics:
    """Create Kafka topics for this test, and return their names."""
    tag = uuid.uuid4().hex
    names = Topics(orders=f"orders-{tag}", dead_letters=f"dead-letters-{tag}")
    await create_topics(
        stores.kafka_bootstrap, {names.orders: ORDERS_PARTITIONS, names.dead_letters: 1}
    )
    return names
