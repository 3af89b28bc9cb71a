"""Writes messages to Kafka, acknowledged by all in-sync replicas, in record batches made here.

What aiokafka 0.14 does, and what is done about it:
- `send` costs four times as much for each message as a batch filled by hand.
- `send_batch` returns a shielded future: cancelling our wait stops neither the batch nor its
  retries. So a wait that ends early means "unknown", never "acknowledged".
- An idempotent producer retries for ever, and once a batch has failed for good its sequence
  numbers are spent: later batches of that partition may fail too. So the first failure or timeout
  discards the producer, and the next message gets a new one.
- `stop` waits for all batches, without bound. So what is left is failed first.
"""

import asyncio
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
)

from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_faults import kafka_faults
from seckill.runtime.kafka_limits import BatchLimits

# Far below what brokers take by default (1 MiB).
BATCH_BYTES_MAX = 262_144
BATCH_RECORDS_MAX = 10_000
# What a topic says of a batch above its limit.
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
log = structlog.get_logger()


class Sendable(Protocol):
    """What can be written: bytes as they are, headers in their order, Unix time in milliseconds."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int | None: ...


class Message(NamedTuple):
    """A message; without a time it gets that of its writing."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None = None


SendableT = TypeVar("SendableT", bound=Sendable)


@dataclass(slots=True)
class Delivery(Generic[SendableT]):
    """What became of some messages.

    Attributes:
        acknowledged: those that Kafka has, on all in-sync replicas.
        too_large: those that Kafka refuses even in a batch of their own.
        batch_records: how many were in each acknowledged batch.
        error: why others are neither; None if there are none.
    """

    acknowledged: list[SendableT] = field(default_factory=list)
    too_large: list[SendableT] = field(default_factory=list)
    batch_records: list[int] = field(default_factory=list)
    error: BaseException | None = None


class KafkaWriter:
    """Writes messages at least once; a producer that fails is replaced by a new one."""

    def __init__(
        self,
        cluster: KafkaCluster,
        *,
        timeout_s: float,
        batch_records_max: int = BATCH_RECORDS_MAX,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        on_failure: Callable[[], object] = lambda: None,
    ) -> None:
        """Describe it; nothing is connected before the first message.

        Args:
            cluster: where the topics are.
            timeout_s: how long one call may take, connecting included.
            batch_records_max: messages in a record batch.
            batch_bytes_max: bytes in a record batch, unless a single message has more.
            on_failure: called for each producer that was discarded.
        """
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._batch_bytes_max = batch_bytes_max
        self._on_failure = on_failure
        self._producer: AIOKafkaProducer | None = None
        self._turn = 0
        self._limits = BatchLimits(batch_records_max)

    async def write(self, topic: str, messages: Sequence[Sendable]) -> None:
        """Write all of these, at least once each; those of one key in order.

        Raises:
            DependencyUnavailable: some may not have been written: write them all again.
        """
        ends_s = time.monotonic() + self._timeout_s
        while messages:
            # Also after a refusal all of them: else a message might come before an earlier one.
            delivery = await self._attempt(topic, messages, by_key=True, ends_s=ends_s)
            if delivery.error is None:
                return
            if delivery.too_large or not _is_worth_repeating(delivery.error, ends_s):
                raise DependencyUnavailable(f"{topic} cannot be written") from delivery.error

    async def deliver(self, topic: str, messages: Sequence[SendableT]) -> Delivery[SendableT]:
        """Write these, at least once each and in no order: each batch goes to the next partition.

        A batch that Kafka refuses as too large is halved and written again.
        """
        ends_s = time.monotonic() + self._timeout_s
        total = Delivery[SendableT]()
        left = messages
        while left:
            part = await self._attempt(topic, left, by_key=False, ends_s=ends_s)
            total.acknowledged += part.acknowledged
            total.too_large += part.too_large
            total.batch_records += part.batch_records
            done = {id(message) for message in (*part.acknowledged, *part.too_large)}
            left = [message for message in left if id(message) not in done] if part.error else []
            if left and not _is_worth_repeating(part.error, ends_s):
                total.error = part.error
                break
        if total.too_large:
            # The batches were halved in search of these: others need no smaller ones.
            self._limits.reset(topic)
        return total

    async def close(self) -> None:
        """Let what is in flight finish within the timeout, then disconnect."""
        if self._producer is not None:
            with suppress(KafkaError, TimeoutError), kafka_faults():
                async with asyncio.timeout(self._timeout_s):
                    await self._producer.flush()
            await self._abandon()

    async def _attempt(
        self, topic: str, messages: Sequence[SendableT], *, by_key: bool, ends_s: float
    ) -> Delivery[SendableT]:
        """Send all of the messages once, and wait for Kafka until time.monotonic() is `ends_s`."""
        sent: list[tuple[asyncio.Future[object], list[SendableT]]] = []
        delivery = Delivery[SendableT]()
        try:
            with kafka_faults():
                async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
                    producer = await self._connected()
                    # Cached by the client; asked each time because partitions may be added.
                    partitions = sorted(await producer.partitions_for(topic))
                    groups = _by_key(messages, partitions) if by_key else [(None, messages)]
                    for fixed, group in groups:
                        for batch, part in _fill(producer, group, self._limits.records_max(topic)):
                            partition = self._next(partitions) if fixed is None else fixed
                            future = await producer.send_batch(batch, topic, partition=partition)
                            sent.append((future, part))
                    await asyncio.wait([future for future, _ in sent])
        except (KafkaError, OSError, TimeoutError) as fault:
            delivery.error = fault
        for future, part in sent:
            self._note(topic, future, part, delivery)
        if delivery.error is not None:
            await self._discard(delivery.error)
        return delivery

    def _note(
        self,
        topic: str,
        future: asyncio.Future[object],
        part: list[SendableT],
        delivery: Delivery[SendableT],
    ) -> None:
        """Add to `delivery` what became of a batch with these messages."""
        if not future.done():
            future.cancel()  # the shield only: the batch may still arrive
            return
        failure = future.exception()
        if failure is None:
            delivery.acknowledged += part
            delivery.batch_records.append(len(part))
            return
        if not isinstance(delivery.error, TOO_LARGE):
            # A refusal is what has broken the sequence of later batches: it explains them.
            delivery.error = failure
        if isinstance(failure, TOO_LARGE):
            if len(part) == 1:
                delivery.too_large += part
            else:
                self._limits.halve(topic, refused=len(part))

    def _next(self, partitions: Sequence[int]) -> int:
        self._turn += 1
        return partitions[self._turn % len(partitions)]

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **self._cluster.client_options,
                enable_idempotence=True,
                acks="all",
                max_batch_size=self._batch_bytes_max,
                request_timeout_ms=int(self._timeout_s * 1000),
            )
            try:
                await self._producer.start()
            except BaseException:
                await self._abandon()
                raise
        return self._producer

    async def _discard(self, error: BaseException) -> None:
        log.warning("kafka producer recreated", error=repr(error))
        self._on_failure()
        await self._abandon()

    async def _abandon(self) -> None:
        """Disconnect without waiting for batches; what is not acknowledged stays unknown."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Else `stop` would wait until Kafka is back; aiokafka has no public way to give up.
        producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001
        for step in (producer.stop, producer.client.close):
            with suppress(Exception):  # it is broken already, and there is no caller to tell
                async with asyncio.timeout(self._timeout_s):
                    await step()


def _is_worth_repeating(error: BaseException | None, ends_s: float) -> bool:
    """Whether smaller batches may help, and there is time left for them."""
    return isinstance(error, TOO_LARGE) and time.monotonic() < ends_s


def _by_key(
    messages: Sequence[SendableT], partitions: Sequence[int]
) -> Iterator[tuple[int, list[SendableT]]]:
    """The messages by partition, those of one key together."""
    groups: dict[int, list[SendableT]] = defaultdict(list)
    for message in messages:
        # Any function of the key keeps its messages in order; Kafka's murmur2 is slow in Python.
        groups[partitions[zlib.crc32(message.key or b"") % len(partitions)]].append(message)
    yield from groups.items()


def _fill(
    producer: AIOKafkaProducer, messages: Sequence[SendableT], records_max: int
) -> Iterator[tuple[Any, list[SendableT]]]:
    """Closed record batches, each with the messages in it."""
    batch, part = producer.create_batch(), list[SendableT]()
    for message in messages:
        if len(part) == records_max or not _append(batch, message):
            batch.close()
            yield batch, part
            batch, part = producer.create_batch(), []
            _append(batch, message)  # the first one always fits
        part.append(message)
    if part:
        batch.close()
        yield batch, part


def _append(batch: Any, message: Sendable) -> bool:
    """Add a message; False if the batch is full."""
    # A message of neither key nor value is legal, but not for the client.
    appended = batch.append(
        timestamp=message.timestamp_ms,
        key=message.key,
        value=message.value or b"",
        headers=message.headers,
    )
    return appended is not None


@asynccontextmanager
async def open_writer(cluster: KafkaCluster, *, timeout_s: float) -> AsyncIterator[KafkaWriter]:
    """A writer whose producer is closed at the end."""
    writer = KafkaWriter(cluster, timeout_s=timeout_s)
    try:
        yield writer
    finally:
        await writer.close()
