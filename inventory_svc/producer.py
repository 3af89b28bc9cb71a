"""The producer of the orders topic: record batches over the partitions in turn.

What aiokafka 0.14 does, and what is done about it:
- `send_batch` returns a shielded future: cancelling our wait stops neither the batch nor its
  retries. So a wait that ends early means "unknown", never "acknowledged".
- An idempotent producer retries for ever, and once a batch has failed for good its sequence
  numbers are spent: all later batches of that partition fail too. So the first failure or timeout
  discards the producer, and the next delivery makes a new one.
- `stop` waits for all batches, without bound. So what is left is failed first.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from inventory_svc import metrics
from inventory_svc.outbox import Entry, Record
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
RETRY_BACKOFF_MS = 100
_REFUSED = (
    "what its buyers hold goes on record as rejected, and rollback_svc returns the units, unless"
    " the number is an order already; nothing is left to do"
)
_NOTHING_HELD = "no hold in redis lacks its order: there were no units to return"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of some records."""

    # Records that Kafka has, on all in-sync replicas.
    acknowledged: list[Record]
    # Why there are fewer than were given; None where there are not.
    error: BaseException | None


class OrdersProducer:
    """Delivers records at least once; makes its Kafka producer anew whenever one fails."""

    def __init__(
        self,
        bootstrap: str,
        *,
        topic: str,
        dead_letter_topic: str,
        batch_entries_max: int,
        batch_bytes_max: int,
        delivery_timeout_s: float,
    ) -> None:
        """Describe it; nothing is connected before the first delivery.

        Args:
            bootstrap: brokers, "host:port,host:port".
            batch_entries_max: records in a batch.
            batch_bytes_max: bytes in a batch.
            delivery_timeout_s: how long to wait for Kafka, at each step.
        """
        self._bootstrap = bootstrap
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._batch_entries_max = batch_entries_max
        self._batch_bytes_max = batch_bytes_max
        self._timeout_s = delivery_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._turn = 0

    async def deliver(self, records: Sequence[Record]) -> Delivery:
        """Send records and wait until Kafka has acknowledged them, or the timeout is over.

        Raises:
            DependencyUnavailable: Kafka cannot be reached.
        """
        sent: list[tuple[asyncio.Future[object], list[Record]]] = []
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._connected()
                # Cached by the client; asked each time because partitions may be added.
                partitions = sorted(await producer.partitions_for(self._topic))
                for builder, part in self._batches(producer, records):
                    partition = partitions[self._turn % len(partitions)]
                    self._turn += 1
                    future = await producer.send_batch(builder, self._topic, partition=partition)
                    sent.append((future, part))
                await asyncio.wait([future for future, _ in sent])
        except (KafkaError, OSError, TimeoutError) as fault:
            error = fault
        acknowledged: list[Record] = []
        for future, part in sent:
            if not future.done():
                future.cancel()  # the shield only: the batch may still arrive
            elif (failure := future.exception()) is not None:
                error = failure
            else:
                acknowledged += part
                metrics.relay_batch_entries.observe(len(part))
        if error is not None:
            await self._discard(error)
        return Delivery(acknowledged=acknowledged, error=error)

    async def dead_letter(self, entry: Entry, *, problem: str, refused: Sequence[str]) -> None:
        """Send an entry that cannot be read as it is, and wait until Kafka has it.

        Args:
            problem: why it cannot be read.
            refused: numbers of the orders that are refused in its place.

        Raises:
            DependencyUnavailable: Kafka has not acknowledged it.
        """
        entry_id = entry.entry_id.decode()
        headers = {
            "ce_id": f"{entry.sku}/{entry_id}",
            "ce_source": "/seckill/inventory",
            "ce_type": "seckill.outbox.undecodable.v1",
            "ce_specversion": "1.0",
            "content-type": "application/octet-stream",
            "error": problem,
            "sku": entry.sku,
            "entry_id": entry_id,
            "order_no": " ".join(refused),
            "units": "returned" if refused else "none",
            "advice": _REFUSED if refused else _NOTHING_HELD,
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                producer = await self._connected()
                await producer.send_and_wait(
                    self._dead_letter_topic,
                    entry.payload or b"",
                    key=entry.sku.encode(),
                    headers=[(name, value.encode()) for name, value in headers.items()],
                )
        except (KafkaError, OSError, TimeoutError) as error:
            await self._discard(error)
            raise DependencyUnavailable("kafka does not take a dead letter") from error

    async def close(self) -> None:
        """Let what is under way finish within the delivery timeout, then disconnect."""
        if self._producer is not None:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await self._producer.flush()
            await self._abandon()

    def _batches(
        self, producer: AIOKafkaProducer, records: Sequence[Record]
    ) -> list[tuple[object, list[Record]]]:
        """Closed record batches, each with the records in it."""
        batches: list[tuple[object, list[Record]]] = []
        builder, part = producer.create_batch(), list[Record]()
        for record in records:
            full = len(part) == self._batch_entries_max
            if full or not _append(builder, record):
                builder.close()
                batches.append((builder, part))
                builder, part = producer.create_batch(), []
                _append(builder, record)  # the first one always fits
            part.append(record)
        builder.close()
        if part:
            batches.append((builder, part))
        return batches

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            timeout_ms = int(self._timeout_s * 1000)
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                enable_idempotence=True,
                acks="all",
                max_batch_size=self._batch_bytes_max,
                max_request_size=self._batch_bytes_max,
                request_timeout_ms=timeout_ms,
                retry_backoff_ms=RETRY_BACKOFF_MS,
            )
            try:
                await self._producer.start()
            except BaseException:
                await self._abandon()
                raise
        return self._producer

    async def _discard(self, error: BaseException) -> None:
        log.warning("kafka producer is made anew", error=repr(error))
        metrics.relay_failures.labels("kafka").inc()
        await self._abandon()

    async def _abandon(self) -> None:
        """Disconnect without waiting for batches; what is not acknowledged stays unknown."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Else `stop` would wait until Kafka is back; aiokafka has no public way to give up.
        producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001
        for step in (producer.stop, producer.client.close):
            with suppress(Exception):  # it is broken already; nobody is left to be told
                async with asyncio.timeout(self._timeout_s):
                    await step()


def _append(builder: object, record: Record) -> bool:
    """Add a record to a batch; False where the batch is full."""
    appended: object = builder.append(  # type: ignore[attr-defined]
        timestamp=record.timestamp_ms, key=record.key, value=record.value
    )
    return appended is not None
