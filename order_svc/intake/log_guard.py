"""Notices a Kafka log that was cut, and makes the consumer read it again from its start.

A broker that crashed, or a topic that was recreated, may have a log that ends before the offset
that was committed. It may have grown past it again since: then the offset is good, but leads into
the middle of messages that nobody has read. So each offset is committed with a fingerprint of the
message before it. Reading from the start is safe: an order number becomes one order.
"""

import asyncio
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from order_svc import metrics
from order_svc.settings import OrderSettings

Batches: TypeAlias = Mapping[TopicPartition, Sequence[ConsumerRecord]]
log = structlog.get_logger()


def offsets_after(found: Batches) -> dict[TopicPartition, tuple[int, str]]:
    """Return what to commit after these batches: offset and fingerprint, by partition."""
    return {
        partition: (batch[-1].offset + 1, _fingerprint(batch[-1]))
        for partition, batch in found.items()
    }


def _fingerprint(record: ConsumerRecord) -> str:
    return f"{record.timestamp}-{zlib.crc32(record.value or b''):08x}"


class LogGuard:
    """Compares the partitions of a client, once each, with what its group has committed."""

    def __init__(self, settings: OrderSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer | None = None
        # Offset of the next message, for each of its partitions that was compared.
        self._next: dict[TopicPartition, int] = {}

    async def admit(self, client: AIOKafkaConsumer, found: Batches) -> Batches:
        """Return the batches that continue what was read; the client reads the others again.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka does not answer.
        """
        if client is not self._client:
            self._client, self._next = client, {}
        assigned = client.assignment()
        self._next = {tp: offset for tp, offset in self._next.items() if tp in assigned}
        unknown = [partition for partition in found if partition not in self._next]
        replaced: set[TopicPartition] = set()
        if unknown:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                replaced = await self._compare(unknown, found)
                if replaced:
                    await client.seek_to_beginning(*replaced)
        for partition, batch in found.items():
            # An offset beyond the end made the client start again by itself.
            if partition in replaced or batch[0].offset < self._next.get(partition, 0):
                metrics.CONSUMER_LOG_CUTS_TOTAL.inc()
                log.warning(
                    "kafka log was cut, read again from its start",
                    topic=partition.topic,
                    partition=partition.partition,
                    committed=self._next.get(partition),
                )
            self._next[partition] = 0 if partition in replaced else batch[0].offset
        return {partition: batch for partition, batch in found.items() if partition not in replaced}

    def note(self, found: Batches) -> None:
        """Note that these batches have been processed."""
        self._next.update((partition, batch[-1].offset + 1) for partition, batch in found.items())

    async def _compare(
        self, partitions: Sequence[TopicPartition], found: Batches
    ) -> set[TopicPartition]:
        """Return the partitions whose message before the committed offset is another one now."""
        committed = await self._committed(partitions)
        self._next.update((partition, entry.offset) for partition, entry in committed.items())
        continued = {
            partition: entry
            for partition, entry in committed.items()
            if entry.metadata and entry.offset == found[partition][0].offset
        }
        before = await self._read_before(continued)
        return {
            partition
            for partition, fingerprint in before.items()
            if fingerprint != continued[partition].metadata
        }

    async def _committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._settings.kafka_bootstrap,
            request_timeout_ms=int(self._settings.order_kafka_timeout_s * 1000),
        )
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(
                self._settings.order_consumer_group, partitions=list(partitions)
            )
        finally:
            await admin.close()
        return {partition: entry for partition, entry in found.items() if entry.offset >= 0}

    async def _read_before(
        self, entries: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, str]:
        """Return fingerprints of the messages before these offsets that have not been deleted."""
        if not entries:
            return {}
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka_bootstrap, enable_auto_commit=False
        )
        try:
            await reader.start()
            firsts = await reader.beginning_offsets(list(entries))
            kept = [tp for tp, entry in entries.items() if firsts[tp] < entry.offset]
            return await _read_each(reader, kept, entries)
        finally:
            # Gathered: it may end with a CancelledError of its own, see OrderConsumer.
            await asyncio.gather(reader.stop(), return_exceptions=True)


async def _read_each(
    reader: AIOKafkaConsumer,
    partitions: Iterable[TopicPartition],
    entries: Mapping[TopicPartition, OffsetAndMetadata],
) -> dict[TopicPartition, str]:
    prints: dict[TopicPartition, str] = {}
    for partition in partitions:
        reader.assign([partition])
        reader.seek(partition, entries[partition].offset - 1)
        record = await reader.getone(partition)
        if record.offset == entries[partition].offset - 1:
            prints[partition] = _fingerprint(record)
    return prints
