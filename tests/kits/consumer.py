"""A consumer on real stores with everything around it, and ways to look at what it did."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from devstack import Stores
from order_svc.db.database import Database, open_database
from order_svc.intake.batch_processor import BatchProcessor, BatchResult
from order_svc.intake.consumer import OrderConsumer
from order_svc.intake.dead_letter_topic import (
    SettlementIndex,
    StoredDeadLetter,
    open_dead_letter_topic,
)
from order_svc.intake.dead_letters import DeadLetterWriter, open_dead_letter_writer
from order_svc.intake.delays import DelayWriter
from order_svc.intake.writer import OrderWriter
from order_svc.intake.written import WrittenBatch
from order_svc.orders.projection import OrderProjection
from order_svc.sales.repository import SaleRepository
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.order_no import make_order_nos
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import DelaySet, delay_key
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.redis_client import open_redis
from seckill.v1 import events_pb2, sale_pb2

WAIT_TIMEOUT_S = 20.0


class OwnTopics(Protocol):
    """The topics fixture: names of the test's own topics."""

    @property
    def orders(self) -> str:
        """Topic of reservations."""

    @property
    def dead_letters(self) -> str:
        """Topic of dead letters."""


class Bench:
    """A consumer with everything around it, and ways to look at what it did."""

    def __init__(
        self,
        *,
        settings: OrderSettings,
        database: Database,
        redis_client: "redis.asyncio.Redis",
        dead_letters: DeadLetterWriter,
        producer: AIOKafkaProducer,
        sql: asyncpg.Connection,
    ) -> None:
        self.settings = settings
        self.database = database
        self.writer = OrderWriter(database)
        self.sales = SaleRepository(database)
        self.delays = DelaySet(redis_client)
        self.projection = OrderProjection(redis_client, settings)
        self.dead_letters = dead_letters
        self.redis = redis_client
        self.producer = producer
        self.sql = sql
        self.clock = SystemClock()

    def processor(self, **replaced: object) -> BatchProcessor:
        """Return a processor; `replaced` takes the place of its parts."""
        parts = {
            "writer": self.writer,
            "delays": DelayWriter(self.delays),
            "projection": self.projection,
            "dead_letters": self.dead_letters,
        }
        return BatchProcessor(
            **(parts | replaced),  # type: ignore[arg-type]
            clock=self.clock,
            refused_max=self.settings.order_refused_max,
        )

    def consumer(self, **replaced: object) -> OrderConsumer:
        """Return a consumer; `replaced` takes the place of its processor's parts."""
        return OrderConsumer(self.settings, self.processor(**replaced), self.clock)

    @asynccontextmanager
    async def client(self, consumer: OrderConsumer) -> AsyncIterator[AIOKafkaConsumer]:
        """A started client of the consumer's group."""
        client = consumer.new_client()
        await client.start()
        try:
            yield client
        finally:
            await client.stop()

    async def drain(self, consumer: OrderConsumer, count: int) -> BatchResult:
        """Run rounds until this many messages were read; returns their sum."""
        total = BatchResult()
        async with self.client(consumer) as client, asyncio.timeout(WAIT_TIMEOUT_S):
            while total.read < count:
                result = await consumer.run_once(client)
                total = BatchResult(
                    read=total.read + result.read,
                    written=total.written + result.written,
                    dead=total.dead + result.dead,
                )
        return total

    async def sale(self, *, total: int = 1_000) -> str:
        """A registered sale."""
        terms = sale_pb2.SaleTerms(
            sku=f"sku-{uuid.uuid4().hex}",
            total_units=total,
            unit_price=sale_pb2.Money(currency="EUR", minor_units=500),
        )
        terms.end_time.FromSeconds(int(time.time()) + 3_600)
        await self.sales.register(terms)
        return terms.sku

    async def send(self, values: Sequence[bytes]) -> None:
        """Put messages on the orders topic, over all partitions."""
        sent = [await self.producer.send(self.settings.orders_topic, value) for value in values]
        await asyncio.gather(*sent)

    async def counts(self, sku: str) -> tuple[int, int, int, int]:
        """(units sold, orders, ledger rows but the load, entries of the delay set)."""
        row = await self.sql.fetchrow(
            "SELECT sold, (SELECT count(*) FROM orders WHERE sku = s.sku),"
            " (SELECT count(*) FROM stock_ledger WHERE sku = s.sku AND kind <> 'loaded')"
            " FROM sales s WHERE sku = $1",
            sku,
        )
        return (*row, await self.redis.zcard(delay_key()))

    async def committed(self) -> int:
        """Sum of the group's committed offsets."""
        client = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap,
            group_id=self.settings.order_consumer_group,
            enable_auto_commit=False,
        )
        await client.start()
        try:
            partitions = [
                TopicPartition(self.settings.orders_topic, number)
                for number in client.partitions_for_topic(self.settings.orders_topic) or range(4)
            ]
            offsets = [await client.committed(partition) for partition in partitions]
        finally:
            await client.stop()
        return sum(offset or 0 for offset in offsets)

    async def letters(self, count: int) -> list[ConsumerRecord]:
        """This many dead letters."""
        async with AIOKafkaConsumer(
            self.settings.dead_letter_topic,
            bootstrap_servers=self.settings.kafka_bootstrap,
            auto_offset_reset="earliest",
        ) as client:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                return [await client.getone() for _ in range(count)]


@asynccontextmanager
async def open_bench(
    stores: Stores, *, database_dsn: str, redis_url: str, topics: OwnTopics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    settings = OrderSettings.model_validate(
        {
            "postgres_dsn": database_dsn,
            "redis_url": redis_url,
            "kafka_bootstrap": stores.kafka_bootstrap,
            "orders_topic": topics.orders,
            "dead_letter_topic": topics.dead_letters,
            "order_consumer_group": f"group-{uuid.uuid4().hex}",
            "order_poll_timeout_s": 0.2,
            "order_backoff_min_s": 0.05,
            "order_backoff_max_s": 0.2,
            "postgres_timeout_s": 1.0,
        }
    )
    sql = await asyncpg.connect(database_dsn)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all")
    async with (
        open_database(settings) as database,
        open_redis(settings) as redis_client,
        open_dead_letter_writer(settings, SystemClock()) as dead_letters,
        producer,
    ):
        yield Bench(
            settings=settings,
            database=database,
            redis_client=redis_client,
            dead_letters=dead_letters,
            producer=producer,
            sql=sql,
        )
    await sql.close()


async def read_dead_letters(bootstrap: str, topic: str) -> list[StoredDeadLetter]:
    """Return all letters of a topic, settled or not."""
    async with open_dead_letter_topic(
        KafkaCluster(bootstrap), topic, index=SettlementIndex(), timeout_s=WAIT_TIMEOUT_S
    ) as opened:
        return [letter async for letter in opened.letters(after=None)]


def reservations(sku: str, count: int) -> list[bytes]:
    """Messages with reservations of new buyers."""
    users = [f"user-{uuid.uuid4().hex}" for _ in range(count)]
    order_nos = make_order_nos(users, now_s=time.time(), rng=random.Random())
    return [
        events_pb2.OrderReserved(
            order_no=number,
            sku=sku,
            user_id=user,
            request_id=uuid.uuid4().hex,
            quantity=1,
            epoch=1,
        ).SerializeToString()
        for number, user in zip(order_nos, users, strict=True)
    ]


def number_of(value: bytes) -> str:
    """The order number in a message."""
    return events_pb2.OrderReserved.FromString(value).order_no


class WatchedWriter(OrderWriter):
    """The real writer; counts the batches that the database did not take."""

    refused = 0

    async def write(self, events: Sequence[events_pb2.OrderReserved]) -> WrittenBatch:
        try:
            return await super().write(events)
        except DependencyUnavailable:
            self.refused += 1
            raise
