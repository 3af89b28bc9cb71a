"""Writes messages to Kafka, acknowledged by all replicas; its producer is made when needed."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from seckill.errors import DependencyUnavailable

# Far below what brokers take by default (1 MiB).
BATCH_BYTES_MAX = 262_144
log = structlog.get_logger()


class Message(NamedTuple):
    """What is written: bytes as they are, headers in their order."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class KafkaWriter:
    """Writes batches of messages, idempotently while one producer lives."""

    def __init__(self, bootstrap: str, *, timeout_s: float) -> None:
        """Wire it; nothing is connected before the first message.

        Args:
            bootstrap: the brokers, host:port, separated by commas.
            timeout_s: how long a batch may take, connecting included.
        """
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def write(self, topic: str, messages: Sequence[Message]) -> None:
        """Write these, at least once each; those of one key in order.

        Raises:
            DependencyUnavailable: some may not have been written: write them all again.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(topic, messages)
        except (KafkaError, TimeoutError, OSError) as error:
            # A producer that has lost count of its sequence fails for ever: the next is a new one.
            await self.close()
            raise DependencyUnavailable(f"{topic} cannot be written") from error

    async def _send(self, topic: str, messages: Sequence[Message]) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=True,
                max_batch_size=BATCH_BYTES_MAX,
            )
            self._producer = producer
            await producer.start()
        producer = self._producer
        # Cached by the client; asked each time because partitions may be added.
        partitions = sorted(await producer.partitions_for(topic))
        sent = [
            await producer.send_batch(batch, topic, partition=partitions[index])
            for index, batch in _batches(producer, messages, partitions=len(partitions))
        ]
        await asyncio.gather(*sent)

    async def close(self) -> None:
        """Let go of the producer; what it has not sent within the timeout is given up."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("kafka producer did not stop in good order", error=repr(error))


def _batches(
    producer: AIOKafkaProducer, messages: Sequence[Message], *, partitions: int
) -> list[tuple[int, Any]]:
    """Closed record batches, each with the partition (0 to `partitions` - 1) that it goes to.

    Made here and not by `send` for each message: a quarter of the time.
    """
    open_batches: dict[int, Any] = {}
    full: list[tuple[int, Any]] = []
    for message in messages:
        # Any function of the key keeps its messages in order; Kafka's murmur2 is slow in Python.
        index = zlib.crc32(message.key or b"") % partitions
        batch = open_batches.get(index)
        if batch is None or not _append(batch, message):
            if batch is not None:
                full.append((index, batch))
            batch = open_batches[index] = producer.create_batch()
            _append(batch, message)  # the first one always fits
    found = [*full, *open_batches.items()]
    for _, batch in found:
        batch.close()
    return found


def _append(batch: Any, message: Message) -> bool:
    """Add a message; False where the batch is full."""
    # A message of neither key nor value is legal, but not for the client.
    appended = batch.append(
        timestamp=None, key=message.key, value=message.value or b"", headers=message.headers
    )
    return appended is not None


@asynccontextmanager
async def open_writer(bootstrap: str, *, timeout_s: float) -> AsyncIterator[KafkaWriter]:
    """A writer whose producer is closed at the end."""
    writer = KafkaWriter(bootstrap, timeout_s=timeout_s)
    try:
        yield writer
    finally:
        await writer.close()
