"""The dead-letter topic as operators see it: letters, and what was done about each.

What was done is a message of its own on the same topic, naming the letter it settles: it needs no
other store, and lasts as long as the letters do.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from order_svc.kafka_writer import KafkaWriter, Message
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable, SeckillError

SETTLED_TYPE = "seckill.order.dead_letter_settled.v1"
# Messages looked at in each partition, newest first to go in: what is older is not shown.
SCAN_MAX = 100_000
POLL_TIMEOUT_MS = 500

Action = Literal["redriven", "dropped"]


class LetterRefused(SeckillError):
    """This cannot be done with this letter."""


@dataclass(frozen=True, order=True)
class Position:
    """Where a letter is."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read "partition:offset"; raises ValueError naming the text."""
        partition, _, offset = text.partition(":")
        if not partition.isdecimal() or not offset.isdecimal():
            raise ValueError(f"{text!r} is not partition:offset, like 0:12")
        return cls(int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Settlement:
    """What was done about a letter: when (ISO 8601), and what the operator noted."""

    action: str
    at: str
    note: str


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        position: where it is.
        key, value: the message as it was.
        headers: what its writer said of it.
        settled: what was done about it; None while it is open.
    """

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    settled: Settlement | None = None

    def header(self, name: str) -> str:
        """A header, "" where it is missing."""
        return self.headers.get(name, "")


def fold(records: Sequence[ConsumerRecord]) -> list[Letter]:
    """Letters in the order of their positions, each with the last thing done about it."""
    letters: dict[Position, Letter] = {}
    settlements: dict[Position, Settlement] = {}
    for record in records:
        headers = {name: value.decode(errors="replace") for name, value in record.headers}
        if headers.get("ce_type") == SETTLED_TYPE:
            settlements[Position.parse(headers["settles"])] = Settlement(
                headers["action"], headers["ce_time"], headers["note"]
            )
            continue
        position = Position(record.partition, record.offset)
        letters[position] = Letter(position, record.key, record.value, headers)
    return [
        replace(letter, settled=settlements.get(position))
        for position, letter in sorted(letters.items())
    ]


async def read_letters(bootstrap: str, topic: str, *, timeout_s: float) -> list[Letter]:
    """All letters, settled or not, but for those beyond SCAN_MAX.

    Raises:
        DependencyUnavailable: Kafka does not answer in time, or has no such topic.
    """
    client = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        async with asyncio.timeout(timeout_s):
            partitions = await _partitions(bootstrap, topic)
            async with client:
                return fold(await _read(client, partitions))
    except (KafkaError, TimeoutError, OSError) as error:
        raise DependencyUnavailable(f"{topic} cannot be read: {error!r}") from error


async def _partitions(bootstrap: str, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if not described["partitions"]:
        raise DependencyUnavailable(f"Kafka has no topic {topic}")
    return [TopicPartition(topic, facts["partition"]) for facts in described["partitions"]]


async def _read(
    client: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> list[ConsumerRecord]:
    client.assign(partitions)
    begins, ends = (
        await client.beginning_offsets(partitions),
        await client.end_offsets(partitions),
    )
    for partition in partitions:
        client.seek(partition, max(begins[partition], ends[partition] - SCAN_MAX))
    records: list[ConsumerRecord] = []
    while any([await client.position(one) < ends[one] for one in partitions]):
        found = await client.getmany(timeout_ms=POLL_TIMEOUT_MS)
        records += [record for batch in found.values() for record in batch]
    # In the order of time, so that of two settlements the later counts.
    return sorted(records, key=lambda record: int(record.timestamp))


class LetterBox:
    """Settles letters."""

    def __init__(self, writer: KafkaWriter, topic: str, clock: Clock) -> None:
        self._writer = writer
        self._topic = topic
        self._clock = clock

    async def redrive(self, letter: Letter) -> None:
        """Put a letter's message back on the topic it came from, then note that.

        A crash in between leaves the letter open: redriving it again changes nothing, because the
        order number is the identity of what it becomes.

        Raises:
            LetterRefused: it is settled, came from no topic, or its order is on record.
            DependencyUnavailable: Kafka does not take it.
        """
        self._check_open(letter)
        topic = letter.header("original_topic")
        if not topic:
            raise LetterRefused(f"letter {letter.position} came from no topic: nowhere to put it")
        if letter.header("units") in {"returned", "ordered"}:
            raise LetterRefused(
                f"order {letter.header('order_no')} of letter {letter.position} is on record"
                f" already ({letter.header('advice')}): redriving would change nothing"
            )
        origin = ("redriven_from", f"{self._topic} {letter.position}".encode())
        await self._writer.write(topic, [Message(letter.key, letter.value, [origin])])
        await self._settle(letter, "redriven", f"to {topic}")

    async def drop(self, letter: Letter, *, note: str) -> None:
        """Note that nothing is to be done about a letter, and why.

        Raises:
            LetterRefused: it is settled.
            DependencyUnavailable: Kafka does not take the note.
        """
        self._check_open(letter)
        await self._settle(letter, "dropped", note)

    def _check_open(self, letter: Letter) -> None:
        if letter.settled is not None:
            raise LetterRefused(
                f"letter {letter.position} was {letter.settled.action} at {letter.settled.at}"
            )

    async def _settle(self, letter: Letter, action: Action, note: str) -> None:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": str(uuid.uuid4()),
            "ce_source": "/seckill/cli",
            "ce_type": SETTLED_TYPE,
            "ce_time": datetime.fromtimestamp(self._clock.now_s(), UTC).isoformat(
                timespec="milliseconds"
            ),
            "settles": str(letter.position),
            "action": action,
            "note": note,
        }
        encoded = [(name, value.encode()) for name, value in headers.items()]
        await self._writer.write(self._topic, [Message(letter.key, None, encoded)])
