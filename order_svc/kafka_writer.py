"""Writes messages to Kafka, acknowledged by all replicas; its producer is made when needed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from seckill.errors import DependencyUnavailable

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
                bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True
            )
            self._producer = producer
            await producer.start()
        sent = [
            # The client sends no message of neither key nor value, but there are such messages.
            await self._producer.send(
                topic, value=message.value or b"", key=message.key, headers=message.headers
            )
            for message in messages
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


@asynccontextmanager
async def open_writer(bootstrap: str, *, timeout_s: float) -> AsyncIterator[KafkaWriter]:
    """A writer whose producer is closed at the end."""
    writer = KafkaWriter(bootstrap, timeout_s=timeout_s)
    try:
        yield writer
    finally:
        await writer.close()
