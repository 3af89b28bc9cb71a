"""Whether the consumers have dealt with all that Kafka had at a moment."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable, PipelineBusy

POLL_INTERVAL_S = 0.1


class Pipeline:
    """Asks Kafka where the topic of reservations ends, and where the consumers' group is."""

    def __init__(self, settings: OrderSettings) -> None:
        self._settings = settings

    async def await_consumed(self, *, timeout_s: float) -> None:
        """Return once every message that Kafka has now is behind the group's offsets.

        Offsets are committed after the transaction, so these messages are orders by then, or dead
        letters.

        Raises:
            PipelineBusy: the consumers need longer than `timeout_s` seconds.
            DependencyUnavailable: Kafka does not answer.
        """
        lag = -1
        try:
            async with asyncio.timeout(timeout_s):
                ends = await self._ends()
                admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka_bootstrap)
                try:
                    await admin.start()
                    while lag := _behind(ends, await self._committed(admin)):  # noqa: ASYNC110
                        # Kafka tells nobody when a group has committed.
                        await asyncio.sleep(POLL_INTERVAL_S)
                finally:
                    await admin.close()
        except TimeoutError as error:
            if lag < 0:
                raise DependencyUnavailable("kafka does not answer") from error
            raise PipelineBusy(
                f"{lag} reservations in kafka are not orders yet", metadata={"lag": str(lag)}
            ) from error
        except (KafkaError, OSError) as error:
            raise DependencyUnavailable("kafka does not answer") from error

    async def _ends(self) -> Mapping[TopicPartition, int]:
        """Where each partition ends that has messages."""
        settings = self._settings
        # It subscribes, without a group, because a client learns of a topic in no other public way.
        client = AIOKafkaConsumer(
            settings.orders_topic, bootstrap_servers=settings.kafka_bootstrap, group_id=None
        )
        try:
            await client.start()
            partitions = client.assignment()
            begins = await client.beginning_offsets(partitions)
            ends = await client.end_offsets(partitions)
        finally:
            await client.stop()
        return {at: end for at, end in ends.items() if end > begins[at]}

    async def _committed(self, admin: AIOKafkaAdminClient) -> Mapping[TopicPartition, int]:
        found = await admin.list_consumer_group_offsets(self._settings.order_consumer_group)
        return {partition: at.offset for partition, at in found.items()}


def _behind(ends: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> int:
    """Messages before `ends` that are not committed; a group without an offset has done none."""
    return sum(max(0, end - max(0, committed.get(at, 0))) for at, end in ends.items())
