"""Order polls that a replica of Redis answers, on real stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from order_svc.db.database import open_database
from order_svc.orders.projection import OrderProjection, key_of
from order_svc.orders.reader import OrderReader
from order_svc.orders.repository import OrderRepository
from order_svc.settings import OrderSettings
from seckill.runtime.redis_client import open_redis
from seckill.runtime.redis_reads import open_reads
from seckill.v1 import order_pb2
from tests.kits.factories import new_id
from tests.kits.order_store import Store, payment
from tests.kits.redis_replica import ReplicatedRedis, reads_on, replicated_redis
from tests.kits.stores import one_server
from tests.kits.waiting import eventually

# A primary and a replica of their own, without a cluster; those of one: tests/cluster.
pytestmark = one_server

OLDEST_MS = 5_000
READY_S = 40.0


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[ReplicatedRedis]:
    """A primary and its replica."""
    async with replicated_redis(tmp_path) as both:
        yield both


class Process:
    """One replica of the order service, as far as it reads orders."""

    def __init__(self, reader: OrderReader) -> None:
        self.reader = reader

    async def poll(self, order_no: str) -> tuple[order_pb2.Order, float | None]:
        """What a buyer is told, and its age."""
        (encoded,), age_s = await self.reader.read([order_no])
        return order_pb2.Order.FromString(encoded), age_s

    async def until_a_replica_answers(self, order_no: str) -> None:
        """Wait until polls are answered by a replica."""
        await eventually(
            lambda: self.poll(order_no), lambda told: told[1] is not None, timeout_s=READY_S
        )


@asynccontextmanager
async def process(servers: ReplicatedRedis, dsn: str) -> AsyncIterator[Process]:
    """Open one that reads from the replica."""
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": dsn,
            "redis_url": servers.primary.url,
            "redis_timeout_s": 20.0,
            "kafka_bootstrap": "none:1",
            "redis_read_from": "replica",
            "redis_read_staleness_ms": OLDEST_MS,
        }
    )
    async with (
        open_database(settings) as database,
        open_redis(settings) as client,
        open_reads(client, settings) as reads,
    ):
        projection = OrderProjection(client, settings, reads)
        yield Process(OrderReader(OrderRepository(database), projection))


async def test_polls_cost_the_primary_nothing(
    servers: ReplicatedRedis, store: Store, database_dsn: str
) -> None:
    """Hundreds of polls: the primary runs no command for them, and each says how old it is."""
    (number,) = await store.pending(await store.sale(), 1)
    async with process(servers, database_dsn) as ours:
        await ours.until_a_replica_answers(number)
        before = await reads_on(servers.on_primary)
        for _ in range(500):
            order, age_s = await ours.poll(number)
            assert order.state == order_pb2.ORDER_STATE_PENDING
            assert age_s is not None
            assert 0 < age_s <= OLDEST_MS / 1000
        assert await reads_on(servers.on_primary) == before


async def test_who_has_paid_is_never_told_that_they_have_not(
    servers: ReplicatedRedis, store: Store, database_dsn: str
) -> None:
    """At another process, too, which knows nothing of the payment; the link is slow."""
    numbers = await store.pending(await store.sale(), 5)
    async with process(servers, database_dsn) as ours, process(servers, database_dsn) as other:
        for number in numbers:
            await other.until_a_replica_answers(number)
        await ours.until_a_replica_answers(numbers[0])
        servers.link.delay_s = 0.05
        for number in numbers:
            await ours.reader.publish([await store.payments.pay(payment(number))])
            order, _ = await other.poll(number)
            assert order.state == order_pb2.ORDER_STATE_PAID


async def test_an_order_that_the_replica_lacks_is_found(
    servers: ReplicatedRedis, store: Store, database_dsn: str
) -> None:
    """On the primary, or in the database; and a number of no order is found by nobody."""
    known, in_redis, in_database = await store.pending(await store.sale(), 3)
    async with process(servers, database_dsn) as ours:
        await ours.until_a_replica_answers(known)
        servers.link.requests.clear()
        servers.link.replies.clear()
        shown = order_pb2.Order(order_no=in_redis, request_id=new_id("of-redis"))
        await servers.on_primary.set(key_of(in_redis), shown.SerializeToString())
        found, _ = await ours.reader.read([known, in_redis, in_database, known[::-1]])
        orders = [order_pb2.Order.FromString(encoded) for encoded in found]
        assert [order.order_no for order in orders] == [known, in_redis, in_database, ""]
        assert orders[1].request_id == shown.request_id
        servers.link.heal()


async def test_without_the_primary_polls_are_answered_by_the_database(
    servers: ReplicatedRedis, store: Store, database_dsn: str
) -> None:
    """Once the replica is too old, which it soon is without a primary to follow."""
    (number,) = await store.pending(await store.sale(), 1)
    async with process(servers, database_dsn) as ours:
        await ours.until_a_replica_answers(number)
        servers.primary.stop()
        await eventually(lambda: ours.poll(number), lambda told: told[1] is None)
        order, _ = await ours.poll(number)
        assert order.order_no == number
