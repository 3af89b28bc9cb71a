"""Fixtures: real servers, started once on free ports, in a folder of their own.

Each test gets a Redis database, a Postgres database and Kafka topics of its own, so nothing has to
be cleaned up. The addresses in the environment are ignored on purpose: tests flush databases.
"""

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import asyncpg
import pytest
import redis

from devstack import LocalSettings, LocalStack, Stores, create_topics
from order_svc.db.migrate import migrate

ORDERS_PARTITIONS = 4
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


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Start Postgres, Valkey and Kafka."""
    with LocalStack(LocalSettings(directory=tmp_path_factory.mktemp("stack"))) as running:
        yield running


@pytest.fixture(scope="session")
def stores(stack: LocalStack) -> Stores:
    """Return the addresses of the three stores."""
    return stack.stores


@pytest.fixture
def redis_url(stores: Stores) -> str:
    """Empty a Redis database for this test, and return its URL."""
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
