"""Stock with relays between a real Valkey and a real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from inventory_svc.holds import HoldsReader
from inventory_svc.producer import OrdersProducer
from inventory_svc.registry import SaleRegistry
from inventory_svc.relay import Relay
from inventory_svc.settings import InventorySettings
from inventory_svc.streams import OutboxStreams
from inventory_svc.unreadable import UnreadableEntries
from seckill.clock import SystemClock
from seckill.v1 import events_pb2, order_pb2_grpc
from tests.conftest import Topics
from tests.factories import new_id
from tests.inventory_kit import StockKit, attempt
from tests.rollback_kit import free_address

CLAIM_IDLE_S = 0.3
DELIVERY_TIMEOUT_S = 3.0


class RelayKit(StockKit):
    """Stock with relays."""

    def __init__(self, redis_url: str, bootstrap: str, topics: Topics) -> None:
        super().__init__(redis_url)
        self.url = redis_url
        self.bootstrap = bootstrap
        self.topics = topics
        self._producers: list[OrdersProducer] = []

    async def close(self) -> None:
        """Disconnect, from Kafka too."""
        for producer in self._producers:
            await producer.close()
        await super().close()

    def relay(self, *, dead_letter_topic: str = "", entries_max: int = 4_096) -> Relay:
        """Another relay, as another process would have it."""
        settings = InventorySettings(
            redis_url=self.url,  # type: ignore[arg-type]
            kafka_bootstrap=self.bootstrap,
            inventory_relay_claim_idle_s=CLAIM_IDLE_S,
            inventory_relay_backoff_max_s=0.2,
        )
        producer = OrdersProducer(
            self.bootstrap,
            topic=self.topics.orders,
            dead_letter_topic=dead_letter_topic or self.topics.dead_letters,
            batch_entries_max=100,
            batch_bytes_max=65_536,
            delivery_timeout_s=DELIVERY_TIMEOUT_S,
        )
        self._producers.append(producer)
        streams = OutboxStreams(
            self.redis,
            consumer=new_id("relay"),
            entries_max=entries_max,
            claim_idle_s=CLAIM_IDLE_S,
        )
        return Relay(
            streams,
            producer,
            self._unreadable(streams),
            settings=settings,
            clock=SystemClock(),
        )

    def _unreadable(self, streams: OutboxStreams) -> UnreadableEntries:
        """Without an OrderService; test_unreadable_entries.py has one."""
        nobody = order_pb2_grpc.OrderServiceStub(grpc.aio.insecure_channel(free_address()))
        return UnreadableEntries(
            sales=self.sales,
            holds=HoldsReader(self.redis),
            streams=streams,
            registry=SaleRegistry(nobody, clock=SystemClock(), timeout_s=1.0),
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

    async def buy(self, sku: str, count: int) -> set[str]:
        """Order numbers of `count` new reservations."""
        results = await self.reserve(sku, *(attempt() for _ in range(count)))
        return {order_no for _, order_no in results}

    async def arrived(self, wanted: int, *, topic: str = "") -> list[ConsumerRecord]:
        """Messages of the topic once at least so many different ones are there."""
        consumer = AIOKafkaConsumer(
            topic or self.topics.orders,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
        )
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(30), consumer:
            while len({record.key for record in found}) < wanted:
                batches = await consumer.getmany(timeout_ms=200)
                found += [record for batch in batches.values() for record in batch]
        return found


def numbers(records: list[ConsumerRecord]) -> set[str]:
    """Order numbers in Kafka."""
    return {events_pb2.OrderReserved.FromString(record.value).order_no for record in records}
