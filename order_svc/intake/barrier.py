"""Waits until the consumers have processed everything that Kafka had at a moment."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from order_svc.settings import OrderSettings
from seckill.errors import ConsumersLagging, DependencyUnavailable
from seckill.runtime.kafka_faults import kafka_faults

POLL_INTERVAL_S = 0.1


class ConsumerBarrier:
    """Compares the end of the topic of reservation events with the consumers' offsets."""

    def __init__(self, settings: OrderSettings) -> None:
        self._settings = settings

    async def await_consumed(self, *, timeout_s: float) -> None:
        """Return once every message that Kafka has now is behind the group's offsets.

        Offsets are committed after the transaction, so these messages are orders by then, or dead
        letters.

        Raises:
            ConsumersLagging: the consumers need longer than `timeout_s` seconds.
            DependencyUnavailable: Kafka does not answer.
        """
        lag = -1
        try:
            with kafka_faults():
                async with asyncio.timeout(timeout_s):
                    logs = await self._logs()
                    admin = AIOKafkaAdminClient(**self._settings.kafka_cluster().client_options)
                    try:
                        await admin.start()
                        while lag := _behind(logs, await self._committed(admin)):  # noqa: ASYNC110
                            # Kafka does not notify when a group commits.
                            await asyncio.sleep(POLL_INTERVAL_S)
                    finally:
                        await admin.close()
        except TimeoutError as error:
            if lag < 0:
                raise DependencyUnavailable("kafka does not answer") from error
            raise ConsumersLagging(
                f"{lag} reservation events in kafka are not orders yet", metadata={"lag": str(lag)}
            ) from error
        except (KafkaError, OSError) as error:
            raise DependencyUnavailable("kafka does not answer") from error

    async def lag(self) -> int:
        """Return how many messages of the topic the group has not committed; raises KafkaError."""
        logs = await self._logs()
        admin = AIOKafkaAdminClient(**self._settings.kafka_cluster().client_options)
        try:
            await admin.start()
            return _behind(logs, await self._committed(admin))
        finally:
            await admin.close()

    async def _logs(self) -> Mapping[TopicPartition, range]:
        """Return the offsets of each partition that has messages."""
        settings = self._settings
        # It subscribes, without a group: a client has no other public way to learn of a topic.
        client = AIOKafkaConsumer(
            settings.orders_topic, **settings.kafka_cluster().client_options, group_id=None
        )
        try:
            await client.start()
            partitions = client.assignment()
            starts = await client.beginning_offsets(partitions)
            ends = await client.end_offsets(partitions)
        finally:
            await client.stop()
        return {at: range(starts[at], end) for at, end in ends.items() if end > starts[at]}

    async def _committed(self, admin: AIOKafkaAdminClient) -> Mapping[TopicPartition, int]:
        found = await admin.list_consumer_group_offsets(self._settings.order_consumer_group)
        return {partition: at.offset for partition, at in found.items()}


def _behind(logs: Mapping[TopicPartition, range], committed: Mapping[TopicPartition, int]) -> int:
    """Count messages that are not committed; without an offset none is."""
    return sum(_unread(log, committed.get(at, 0)) for at, log in logs.items())


def _unread(log: range, committed: int) -> int:
    """Count messages from the committed offset on. A log that ends before it was cut, or belongs to
    a topic that was recreated: the consumers will read it from its start (intake/log_guard.py).
    """
    return len(log) if committed > log.stop else log.stop - max(log.start, committed)
