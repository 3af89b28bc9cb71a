"""Moves messages that cannot become orders to the dead-letter topic."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from order_svc import metrics
from order_svc.settings import OrderSettings
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
SOURCE = "/seckill/order_svc"
TYPE = "seckill.order.dead_letter.v1"


@dataclass(frozen=True)
class DeadLetter:
    """A message and why it cannot become an order.

    Attributes:
        record: the message as it was read.
        cause: one word of a closed set, for metrics: "undecodable" or "unknown_sku".
        error: what is wrong, in a sentence.
    """

    record: ConsumerRecord
    cause: str
    error: str


def headers_of(letter: DeadLetter, *, now_s: float) -> list[tuple[str, bytes]]:
    """CloudEvents attributes, and where the message came from and when (times in ISO 8601)."""
    record = letter.record
    # The same message gets the same id however often it is moved.
    identity = f"{record.topic}/{record.partition}/{record.offset}"
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid5(uuid.NAMESPACE_URL, identity)),
        "ce_source": SOURCE,
        "ce_type": TYPE,
        "ce_time": _iso(now_s),
        "content-type": "application/protobuf",
        "error": letter.error,
        "error_cause": letter.cause,
        "original_topic": record.topic,
        "original_partition": str(record.partition),
        "original_offset": str(record.offset),
        "original_time": _iso(record.timestamp / 1000),
        "dead_letter_time": _iso(now_s),
    }
    return [(name, value.encode()) for name, value in headers.items()]


def _iso(when_s: float) -> str:
    return datetime.fromtimestamp(when_s, UTC).isoformat(timespec="milliseconds")


class DeadLetters:
    """Writes dead letters, acknowledged by all replicas; its producer is made when needed."""

    def __init__(self, settings: OrderSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write these; at least once each.

        Raises:
            DependencyUnavailable: some may not have been written: write them all again.
        """
        if not letters:
            return
        try:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                await self._send(letters)
        except (KafkaError, TimeoutError, OSError) as error:
            # A producer that has lost count of its sequence fails for ever: the next is a new one.
            await self.close()
            raise DependencyUnavailable("dead letters cannot be written") from error
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.cause).inc()
            log.warning(
                "message moved to dead letters",
                cause=letter.cause,
                error=letter.error,
                partition=letter.record.partition,
                offset=letter.record.offset,
            )

    async def _send(self, letters: Sequence[DeadLetter]) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.kafka_bootstrap,
                acks="all",
                enable_idempotence=True,
            )
            self._producer = producer
            await producer.start()
        now_s = self._clock.now_s()
        sent = [
            await self._producer.send(
                self._settings.dead_letter_topic,
                value=letter.record.value,
                key=letter.record.key,
                headers=headers_of(letter, now_s=now_s),
            )
            for letter in letters
        ]
        await asyncio.gather(*sent)

    async def close(self) -> None:
        """Let go of the producer; what it has not sent within the timeout is given up."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                await producer.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("dead-letter producer did not stop in good order", error=repr(error))


@asynccontextmanager
async def open_dead_letters(settings: OrderSettings, clock: Clock) -> AsyncIterator[DeadLetters]:
    """Dead letters whose producer is closed at the end; nothing is connected before the first."""
    dead_letters = DeadLetters(settings, clock)
    try:
        yield dead_letters
    finally:
        await dead_letters.close()
