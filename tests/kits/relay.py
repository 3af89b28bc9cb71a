"""Stock with relays between a real Valkey and a real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from inventory_svc.outbox.relay import Relay
from inventory_svc.outbox.sender import EntrySender
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.outbox.topic_owner import TopicOwner
from inventory_svc.outbox.unreadable import UnreadableEntries
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.settings import InventorySettings
from inventory_svc.stock.holds import HoldsReader
from seckill.runtime.clock import Clock, SystemClock
from seckill.runtime.kafka_writer import KafkaWriter
from seckill.v1 import events_pb2, order_pb2_grpc
from tests.kits.factories import new_id
from tests.kits.inventory import StockKit, attempt
from tests.kits.rollback import free_address
from tests.kits.stores import Topics

CLAIM_IDLE_S = 0.3
DELIVERY_TIMEOUT_S = 3.0


class RelayKit(StockKit):
    """Stock with relays."""

    def __init__(self, redis_url: str, bootstrap: str, topics: Topics) -> None:
        super().__init__(redis_url)
        self.url = redis_url
        self.bootstrap = bootstrap
        self.topics = topics
        self._writers: list[KafkaWriter] = []

    async def close(self) -> None:
        """Disconnect, from Kafka too."""
        for writer in self._writers:
            await writer.close()
        await super().close()

    def relay(
        self,
        *,
        dead_letter_topic: str = "",
        entries_max: int = 4_096,
        clock: Clock | None = None,
    ) -> Relay:
        """Another relay, as another process would have it."""
        settings = InventorySettings(
            redis_url=self.url,  # type: ignore[arg-type]
            kafka_bootstrap=self.bootstrap,
            orders_topic=self.topics.orders,
            dead_letter_topic=dead_letter_topic or self.topics.dead_letters,
            inventory_relay_claim_idle_s=CLAIM_IDLE_S,
            inventory_relay_backoff_max_s=0.2,
        )
        writer = KafkaWriter(
            settings.kafka_cluster(),
            timeout_s=DELIVERY_TIMEOUT_S,
            batch_records_max=100,
            batch_bytes_max=65_536,
        )
        self._writers.append(writer)
        streams = OutboxStreams(
            self.redis,
            consumer=new_id("relay"),
            entries_max=entries_max,
            claim_idle_s=CLAIM_IDLE_S,
        )
        clock = clock or SystemClock()
        sender = EntrySender(
            streams,
            writer,
            self._unreadable(streams),
            TopicOwner(settings, self.redis),
            settings=settings,
            clock=clock,
        )
        return Relay(streams, sender, settings=settings, clock=clock)

    def _unreadable(self, streams: OutboxStreams) -> UnreadableEntries:
        """Without an OrderService; test_unreadable_entries.py has one."""
        unreachable = order_pb2_grpc.OrderServiceStub(grpc.aio.insecure_channel(free_address()))
        return UnreadableEntries(
            sales=self.sales,
            holds=HoldsReader(self.redis),
            streams=streams,
            registry=SaleRegistry(unreachable, clock=SystemClock(), timeout_s=1.0),
        )

    @asynccontextmanager
    async def running(self, relay: Relay) -> AsyncIterator[None]:
        """The relay at work, cancelled as SIGTERM would."""
        task = asyncio.create_task(relay.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def buy(self, sku: str, count: int, *, batch: int = 1_024) -> set[str]:
        """Order numbers of `count` new reservations, made in batches of `batch`."""
        found: set[str] = set()
        for start in range(0, count, batch):
            items = [attempt() for _ in range(min(batch, count - start))]
            found |= {order_no for _, order_no in await self.reserve(sku, *items)}
        return found

    async def arrived(self, wanted: int, *, topic: str = "") -> list[ConsumerRecord]:
        """Messages of the topic once at least so many different ones are there."""
        return await read_topic(self.bootstrap, topic or self.topics.orders, wanted_keys=wanted)


async def read_topic(
    bootstrap: str, topic: str, *, wanted_keys: int = 0, wanted_values: int = 0
) -> list[ConsumerRecord]:
    """Read a topic from its start until so many different keys and values are there."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    keys: set[bytes] = set()
    values: set[bytes] = set()
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(30), consumer:
        while len(keys) < wanted_keys or len(values) < wanted_values:
            batches = await consumer.getmany(timeout_ms=200)
            new = [record for batch in batches.values() for record in batch]
            keys |= {record.key for record in new}
            values |= {record.value for record in new}
            found += new
    return found


def numbers(records: list[ConsumerRecord]) -> set[str]:
    """Order numbers in Kafka."""
    return {events_pb2.OrderReserved.FromString(record.value).order_no for record in records}
