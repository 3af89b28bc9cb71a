"""Writes messages that cannot become orders to the dead-letter topic."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

import structlog
from aiokafka import ConsumerRecord

from order_svc import metrics
from order_svc.settings import OrderSettings
from seckill.runtime.clock import Clock
from seckill.runtime.kafka_writer import KafkaWriter, Message, open_writer
from seckill.v1.events_pb2 import OrderReserved

log = structlog.get_logger()
SOURCE = "/seckill/order_svc"
TYPE = "seckill.order.dead_letter.v1"


class Units(Enum):
    """What becomes of the units that a dead letter's buyer holds in Redis."""

    RETURNED = "returned"
    ORDERED = "ordered"
    HELD = "held"
    UNKNOWN = "unknown"


_ADVICE = {
    Units.RETURNED: "the order is on record as rejected, and rollback_svc returns its units;"
    " nothing is to be done",
    Units.ORDERED: "another message made this order; nothing is to be done",
    Units.HELD: "its units stay held in Redis and nothing returns them by itself: fix the cause"
    " and redrive this letter",
    Units.UNKNOWN: "this message does not tell whose units it held: the reconciler finds holds"
    " without an order",
}


@dataclass(frozen=True)
class DeadLetter:
    """A message and why it cannot become an order.

    Attributes:
        record: the message as it was read.
        cause: one word of a closed set, for metrics: "undecodable", "unreadable", "unknown_sku" or
            "refused".
        error: what is wrong, in a sentence.
        units: what becomes of its units.
        event: the reservation event, if it could be read.
    """

    record: ConsumerRecord
    cause: str
    error: str
    units: Units = Units.UNKNOWN
    event: OrderReserved | None = None

    @property
    def is_open(self) -> bool:
        """Whether its units need an operator or the reconciler."""
        return self.units in {Units.HELD, Units.UNKNOWN}


def headers_of(letter: DeadLetter, *, now_s: float) -> list[tuple[str, bytes]]:
    """Return the letter's CloudEvents attributes, and where its message came from and when."""
    record = letter.record
    # The same message gets the same id however often it is moved. Once a log was cut, or a topic
    # recreated, another message may have the same offset: their times differ.
    identity = f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}"
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
        "units": letter.units.value,
        "advice": _ADVICE[letter.units],
    }
    if letter.event is not None:
        headers |= {
            "order_no": letter.event.order_no,
            "sku": letter.event.sku,
            "user_id": letter.event.user_id,
            "quantity": str(letter.event.quantity),
        }
    return [(name, value.encode()) for name, value in headers.items()]


def _call_of(event: OrderReserved | None) -> dict[str, str]:
    """Return the fields of a log line that lead to the call, as far as they could be read."""
    if event is None:
        return {}
    call = {"order_no": event.order_no, "attempt": event.request_id, "request_id": event.call_id}
    return {name: value for name, value in call.items() if value}


def _iso(when_s: float) -> str:
    return datetime.fromtimestamp(when_s, UTC).isoformat(timespec="milliseconds")


class DeadLetterWriter:
    """Writes dead letters, acknowledged by all replicas."""

    def __init__(self, topic: str, writer: KafkaWriter, clock: Clock) -> None:
        self._topic = topic
        self._writer = writer
        self._clock = clock

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters, at least once each.

        Raises:
            DependencyUnavailable: some may not have been written: write them all again.
        """
        if not letters:
            return
        now_s = self._clock.now_s()
        messages = [
            Message(letter.record.key, letter.record.value, headers_of(letter, now_s=now_s))
            for letter in letters
        ]
        await self._writer.write(self._topic, messages)
        for letter in letters:
            metrics.DEAD_LETTERS_TOTAL.labels(letter.cause).inc()
            log.warning(
                "message moved to the dead letters",
                cause=letter.cause,
                error=letter.error,
                units=letter.units.value,
                partition=letter.record.partition,
                offset=letter.record.offset,
                **_call_of(letter.event),
            )


@asynccontextmanager
async def open_dead_letter_writer(
    settings: OrderSettings, clock: Clock
) -> AsyncIterator[DeadLetterWriter]:
    """Open a writer whose producer is closed at the end, and connects at the first letter."""
    async with open_writer(
        settings.kafka_cluster(), timeout_s=settings.order_kafka_timeout_s
    ) as writer:
        yield DeadLetterWriter(settings.dead_letter_topic, writer, clock)
