"""A proxy in front of Redis, an order line on stores of the test's own, and stores to be killed."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from deploy.local import KafkaServer, PostgresServer, Stores, ValkeyServer, create_topics
from order_svc.migrate import migrate
from tests.conftest import ORDERS_PARTITIONS, Topics
from tests.factories import new_id
from tests.faults.buyers import Buyers, InventoryDoor
from tests.faults.line import Line, events_topic
from tests.faults.proxy import FaultProxy
from tests.faults.reading import open_reader

MakeLine: TypeAlias = Callable[[Stores], AbstractAsyncContextManager[Line]]
MakeBuyers: TypeAlias = Callable[..., Buyers]


def redis_address(url: str) -> tuple[str, int]:
    """(host, port) of a redis:// address."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition(":")
    return host, int(port)


@pytest.fixture
async def redis_proxy(stores: Stores) -> AsyncIterator[FaultProxy]:
    """Between a stage and Valkey."""
    async with FaultProxy(*redis_address(stores.redis_url)).running() as proxy:
        yield proxy


@pytest.fixture
def own_stores(stores: Stores, redis_url: str, database_dsn: str) -> Stores:
    """Databases of the test's own on the servers that all tests share."""
    return replace(stores, redis_url=redis_url, postgres_dsn=database_dsn)


@pytest.fixture
def make_line(tmp_path: Path) -> MakeLine:
    """Makes a line on given stores, with topics and a consumer group of its own."""

    @asynccontextmanager
    async def make(stores: Stores) -> AsyncIterator[Line]:
        tag = new_id("line")
        topics = Topics(orders=f"orders-{tag}", dead_letters=f"dead-letters-{tag}")
        await create_topics(
            stores.kafka_bootstrap,
            {topics.orders: ORDERS_PARTITIONS, topics.dead_letters: 1, events_topic(tag): 1},
        )
        async with open_reader(stores, topics=topics, group=tag) as reader:
            line = Line(stores, topics=topics, group=tag, directory=tmp_path / tag, reader=reader)
            try:
                yield line
            finally:
                line.stop()

    return make


@pytest.fixture
async def line(make_line: MakeLine, own_stores: Stores) -> AsyncIterator[Line]:
    """A line on the shared servers; no stage runs yet."""
    async with make_line(own_stores) as made:
        yield made


@pytest.fixture
async def make_buyers() -> AsyncIterator[MakeBuyers]:
    """Makes buyers who press at replicas of inventory_svc, by default at the first."""
    async with AsyncExitStack() as channels:

        def make(line: Line, sku: str, *stages: str, patience_s: float = 40.0) -> Buyers:
            opened = [line.channel(stage) for stage in stages or ("inventory",)]
            for channel in opened:
                channels.push_async_callback(channel.close)
            return Buyers(InventoryDoor(opened), sku, patience_s=patience_s)

        yield make


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that the test may freeze, kill and damage."""
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker that the tests of a module may kill; each must leave it running."""
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(scope="module")
async def own_postgres(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[PostgresServer]:
    """A migrated Postgres that the tests of a module may kill; each must leave it running."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        await migrate(server.url)
        yield server
