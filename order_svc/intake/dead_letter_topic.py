"""Reads the dead-letter topic: letters, and messages that say what operators did about them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_faults import kafka_faults

SETTLED_TYPE = "seckill.order.dead_letter_settled.v1"
# The newest messages of each partition that are looked at; older letters are not shown.
SCAN_MAX = 100_000
POLL_TIMEOUT_MS = 500
# Messages decoded at once, between which other calls get their turn.
POLL_RECORDS_MAX = 200

Action = Literal["redriven", "dropped"]


@dataclass(frozen=True, order=True)
class Position:
    """Where a message is on the topic."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read "partition:offset"; raises ValueError naming the text."""
        partition, _, offset = text.partition(":")
        if not all(part.isascii() and part.isdecimal() for part in (partition, offset)):
            raise ValueError(f"{text!r} is not partition:offset, like 0:12")
        return cls(int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Settlement:
    """What an operator did about a letter.

    Attributes:
        action: what was done.
        at: when, in ISO 8601.
        note: the operator's reason, or where the message went.
        operator: subject of the operator's token; "" if it is not on record.
    """

    action: Action
    at: str
    note: str
    operator: str


@dataclass(frozen=True)
class StoredDeadLetter:
    """A dead letter as it is on the topic.

    Attributes:
        position: where it is.
        written_ms: when it was written, in Unix milliseconds, by Kafka's clock.
        key, value: the message as it was.
        headers: what its writer noted.
        settlement: what was done about it; None while it is open.
    """

    position: Position
    written_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    settlement: Settlement | None = None

    def header(self, name: str) -> str:
        """Return a header, "" if it is missing."""
        return self.headers.get(name, "")


class SettlementIndex:
    """What was done about each settled letter; kept between calls, it reads only what is new.

    Without it each page, and each batch that is settled, would cost a scan of the whole topic.
    """

    def __init__(self) -> None:
        self._settlements: dict[Position, tuple[int, Settlement]] = {}
        # By partition, the offset that is read next.
        self._next: dict[TopicPartition, int] = {}

    def __len__(self) -> int:
        return len(self._settlements)

    def get(self, position: Position) -> Settlement | None:
        """Return what was done about a letter; if it was done twice, the later act."""
        found = self._settlements.get(position)
        return found[1] if found else None

    def begin(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return where to read on in each partition; what is no longer looked at is dropped."""
        if any(self._next.get(at, 0) > end for at, end in ends.items()):
            # The topic was recreated.
            self._settlements.clear()
            self._next.clear()
        first = {at.partition: start for at, start in starts.items()}
        self._settlements = {
            position: found
            for position, found in self._settlements.items()
            if position.offset >= first.get(position.partition, 0)
        }
        return {at: max(start, self._next.get(at, 0)) for at, start in starts.items()}

    def add(self, record: ConsumerRecord) -> None:
        """Note a message, if it is a settlement."""
        self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
        headers = _headers(record)
        if headers.get("ce_type") != SETTLED_TYPE:
            return
        try:
            position = Position.parse(headers.get("settles", ""))
        except ValueError:
            return
        known = self._settlements.get(position)
        if known is None or known[0] <= record.timestamp:
            self._settlements[position] = (int(record.timestamp), _settlement(headers))


class DeadLetterTopic:
    """The topic as it stood when it was opened. Raises KafkaError while Kafka does not answer."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        index: SettlementIndex,
    ) -> None:
        """`starts`, `ends`: the offsets between which each partition is read."""
        self._client = client
        self._starts = starts
        self._ends = ends
        self._index = index

    async def update_index(self) -> None:
        """Let the index learn what was settled since it was used last."""
        async for record in self._records(self._index.begin(self._starts, self._ends), self._ends):
            self._index.add(record)

    async def letters(self, *, after: Position | None) -> AsyncIterator[StoredDeadLetter]:
        """Yield the letters behind `after`, by partition and offset; None starts with the first."""
        async for record in self._records(self._behind(after), self._ends):
            letter = self._letter(record)
            if letter is not None:
                yield letter

    async def letters_at(self, positions: Collection[Position]) -> dict[Position, StoredDeadLetter]:
        """Return the letters at these positions, as far as there are any.

        Each partition is read once, from the first of them to the last.
        """
        first, last = _ranges(positions)
        starts = {
            at: max(start, first[at.partition])
            for at, start in self._starts.items()
            if at.partition in first
        }
        ends = {at: min(self._ends[at], last[at.partition] + 1) for at in starts}
        found: dict[Position, StoredDeadLetter] = {}
        async for record in self._records(starts, ends):
            position = Position(record.partition, record.offset)
            if position in positions and (letter := self._letter(record)):
                found[position] = letter
        return found

    def _behind(self, after: Position | None) -> dict[TopicPartition, int]:
        if after is None:
            return dict(self._starts)
        return {
            at: max(start, after.offset + 1) if at.partition == after.partition else start
            for at, start in self._starts.items()
            if at.partition >= after.partition
        }

    async def _records(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncIterator[ConsumerRecord]:
        for partition in sorted(starts):
            start, end = starts[partition], ends[partition]
            if start >= end:
                continue
            self._client.assign([partition])
            self._client.seek(partition, start)
            while await self._client.position(partition) < end:
                found = await self._client.getmany(
                    partition, timeout_ms=POLL_TIMEOUT_MS, max_records=POLL_RECORDS_MAX
                )
                for record in found.get(partition, ()):
                    if record.offset < end:
                        yield record

    def _letter(self, record: ConsumerRecord) -> StoredDeadLetter | None:
        headers = _headers(record)
        if headers.get("ce_type") == SETTLED_TYPE:
            return None
        position = Position(record.partition, record.offset)
        return StoredDeadLetter(
            position=position,
            written_ms=int(record.timestamp),
            key=record.key,
            value=record.value,
            headers=headers,
            settlement=self._index.get(position),
        )


def _ranges(positions: Iterable[Position]) -> tuple[dict[int, int], dict[int, int]]:
    """Return the lowest and the highest offset of each partition."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for position in sorted(positions):
        first.setdefault(position.partition, position.offset)
        last[position.partition] = position.offset
    return first, last


def _headers(record: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in record.headers}


def _settlement(headers: Mapping[str, str]) -> Settlement:
    return Settlement(
        action=cast("Action", headers.get("action", "")),
        at=headers.get("ce_time", ""),
        note=headers.get("note", ""),
        operator=headers.get("operator", ""),
    )


@asynccontextmanager
async def open_dead_letter_topic(
    cluster: KafkaCluster, topic: str, *, index: SettlementIndex, timeout_s: float
) -> AsyncIterator[DeadLetterTopic]:
    """Open the topic for reading, for at most `timeout_s` seconds, and bring `index` up to date.

    Raises:
        DependencyUnavailable: Kafka does not answer in time, or has no such topic.
    """
    try:
        with kafka_faults():
            async with asyncio.timeout(timeout_s):
                partitions = await _partitions(cluster, topic)
                async with AIOKafkaConsumer(
                    **cluster.client_options, enable_auto_commit=False
                ) as client:
                    client.assign(partitions)
                    starts = await client.beginning_offsets(partitions)
                    ends = await client.end_offsets(partitions)
                    newest = {at: max(start, ends[at] - SCAN_MAX) for at, start in starts.items()}
                    opened = DeadLetterTopic(client, newest, ends, index)
                    await opened.update_index()
                    yield opened
    except (KafkaError, TimeoutError, OSError) as error:
        raise DependencyUnavailable(f"{topic} cannot be read: {error!r}") from error


async def _partitions(cluster: KafkaCluster, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**cluster.client_options)
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if not described["partitions"]:
        raise DependencyUnavailable(f"Kafka has no topic {topic}")
    return [TopicPartition(topic, facts["partition"]) for facts in described["partitions"]]
