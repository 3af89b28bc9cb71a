"""Notices a Kafka log that was cut, and makes the consumer read it again from its start.

A broker that crashed, or a topic that was recreated, may have a log that ends before the offset
that was committed. It may have grown past it again since: then the offset is good, but leads into
the middle of messages that nobody has read. So each offset is committed with a fingerprint of the
message before it. Reading from the start is safe: an order number becomes one order.

A client that goes on over the crash keeps its place as well, so once no broker has answered it for
a while each partition is compared again, with the message that was read last. (A single broker that
is away loses nothing that others have too.)
"""

import asyncio
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from order_svc import metrics
from order_svc.settings import OrderSettings

Batches: TypeAlias = Mapping[TopicPartition, Sequence[ConsumerRecord]]
# A broker answers each fetch after half a second at the latest; to start again takes it longer.
SILENCE_MAX_MS = 1_500
# One message of each partition is looked at; a larger one is sent all the same.
FETCH_BYTES_MAX = 16 * 1024
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
    """Compares each partition with what was read of it before.

    When the client gets it, with what the group has committed; after a silence of the brokers, with
    what the client has read.
    """

    def __init__(self, settings: OrderSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer | None = None
        # Offset of the next message of each partition, and fingerprint of the one before it, as
        # far as they are known.
        self._next: dict[TopicPartition, int] = {}
        self._prints: dict[TopicPartition, str] = {}
        self._compared: set[TopicPartition] = set()
        # When a fetch was answered last, in the client's milliseconds.
        self._answered_ms = 0

    async def admit(self, client: AIOKafkaConsumer, found: Batches) -> Batches:
        """Return the batches that continue what was read; the client reads the others again.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka does not answer.
        """
        self._follow(client)
        unsure = client.assignment() - self._compared
        replaced: set[TopicPartition] = set()
        if unsure:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                await self._learn(list(unsure - self._next.keys()))
                replaced = await self._compare(unsure, found)
                if replaced:
                    await client.seek_to_beginning(*replaced)
            self._compared |= unsure
        for partition in replaced:
            self._note_cut(partition)
            self._next[partition] = 0
            del self._prints[partition]
        kept = {partition: batch for partition, batch in found.items() if partition not in replaced}
        for partition, batch in kept.items():
            # An offset beyond the end made the client start again by itself.
            if batch[0].offset < self._next.get(partition, 0):
                self._note_cut(partition)
                self._prints.pop(partition, None)
            self._next[partition] = batch[0].offset
        return kept

    def note(self, found: Batches) -> None:
        """Note that these batches have been processed."""
        for partition, batch in found.items():
            self._next[partition] = batch[-1].offset + 1
            self._prints[partition] = _fingerprint(batch[-1])

    def _follow(self, client: AIOKafkaConsumer) -> None:
        """Forget what the client has no longer, and after a silence what was compared."""
        if client is not self._client:
            self._client = client
            self._next, self._prints, self._compared, self._answered_ms = {}, {}, set(), 0
        assigned = client.assignment()
        for partition in self._next.keys() - assigned:
            del self._next[partition]
            self._prints.pop(partition, None)
        self._compared &= assigned
        answered_ms = max((client.last_poll_timestamp(tp) or 0 for tp in assigned), default=0)
        if self._answered_ms and answered_ms - self._answered_ms > SILENCE_MAX_MS:
            self._compared.clear()
        self._answered_ms = max(answered_ms, self._answered_ms)

    def _note_cut(self, partition: TopicPartition) -> None:
        metrics.CONSUMER_LOG_CUTS_TOTAL.inc()
        log.warning(
            "kafka log was cut, read again from its start",
            topic=partition.topic,
            partition=partition.partition,
            committed=self._next.get(partition),
        )

    async def _learn(self, partitions: Sequence[TopicPartition]) -> None:
        """Take over what the group has committed of these."""
        if not partitions:
            return
        for partition, entry in (await self._committed(partitions)).items():
            self._next[partition] = entry.offset
            if entry.metadata:
                self._prints[partition] = entry.metadata

    async def _compare(
        self, partitions: Collection[TopicPartition], found: Batches
    ) -> set[TopicPartition]:
        """Return the partitions whose message before the next one is another one now."""
        continued = {
            partition: self._next[partition]
            for partition in partitions
            if partition in self._prints
            and (partition not in found or found[partition][0].offset == self._next[partition])
        }
        before = await self._read_before(continued)
        return {
            partition
            for partition, fingerprint in before.items()
            if fingerprint != self._prints[partition]
        }

    async def _committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        admin = AIOKafkaAdminClient(
            **self._settings.kafka_cluster().client_options,
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
        self, offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, str]:
        """Return fingerprints of the messages before these offsets that have not been deleted."""
        if not offsets:
            return {}
        reader = AIOKafkaConsumer(
            **self._settings.kafka_cluster().client_options,
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        try:
            await reader.start()
            firsts = await reader.beginning_offsets(list(offsets))
            ends = await reader.end_offsets(list(offsets))
            kept = {tp: offset for tp, offset in offsets.items() if firsts[tp] < offset <= ends[tp]}
            return await _read_each(reader, kept) if kept else {}
        finally:
            # Gathered: it may end with a CancelledError of its own, see OrderConsumer.
            await asyncio.gather(reader.stop(), return_exceptions=True)


async def _read_each(
    reader: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, str]:
    prints: dict[TopicPartition, str] = {}
    reader.assign(list(offsets))
    for partition, offset in offsets.items():
        reader.seek(partition, offset - 1)
    for partition, offset in offsets.items():
        record = await reader.getone(partition)
        if record.offset == offset - 1:
            prints[partition] = _fingerprint(record)
    return prints
