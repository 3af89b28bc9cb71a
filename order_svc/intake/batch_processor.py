"""Process one batch of Kafka messages.

Database, then Redis, then dead letters: after a crash at any point the same batch is processed
again, and processing it again changes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import ConsumerRecord

from order_svc import metrics
from order_svc.intake import spans
from order_svc.intake.bisecting import REFUSALS, write_bisecting
from order_svc.intake.dead_letters import DeadLetter, DeadLetterWriter, Units
from order_svc.intake.delays import DelayWriter
from order_svc.intake.reservations import Undecodable, decode_reservation
from order_svc.intake.writer import OrderWriter
from order_svc.intake.written import WrittenBatch, encode_fresh
from order_svc.orders.model import order_of
from order_svc.orders.projection import OrderProjection
from seckill.errors import DependencyUnavailable
from seckill.runtime import failpoints, request_ids
from seckill.runtime.clock import Clock
from seckill.v1.events_pb2 import OrderReserved

UNREADABLE = "unreadable"
log = structlog.get_logger()


@dataclass(frozen=True)
class BatchResult:
    """Counts of messages: read, written as orders now, and moved to the dead letters."""

    read: int = 0
    written: int = 0
    dead: int = 0


@dataclass(frozen=True)
class _Rejected:
    """A message that becomes no pending order; `event` is None if it could not be read."""

    record: ConsumerRecord
    cause: str
    error: str
    event: OrderReserved | None


class BatchProcessor:
    """Writes batches as orders, adds them to the delay set and the projection."""

    def __init__(
        self,
        *,
        writer: OrderWriter,
        delays: DelayWriter,
        projection: OrderProjection,
        dead_letters: DeadLetterWriter,
        clock: Clock,
        refused_max: int,
    ) -> None:
        """`refused_max`: messages of one batch that the database may refuse, see `bisecting`."""
        self._writer = writer
        self._delays = delays
        self._projection = projection
        self._dead_letters = dead_letters
        self._clock = clock
        self._refused_max = refused_max

    async def run_once(self, records: Sequence[ConsumerRecord]) -> BatchResult:
        """Process a batch; may be repeated.

        Raises:
            DependencyUnavailable: database or Kafka does not answer: process the batch again.
        """
        sources, rejected = _decode(records)
        request_ids.name_calls(event.call_id for _, event in sources.values())
        batches, refused = await self._write(sources)
        rejected += refused
        rejected_batches, unit_outcomes = await self._reject(rejected)
        batches += rejected_batches
        await failpoints.reach("consumer.after_commit")
        # All pending orders, also those written before: after a crash between the commit and this
        # line the redelivery adds them.
        redis_writes = await self._delay(batches)
        await failpoints.reach("consumer.after_delay")
        if redis_writes:
            await self._project(batches)
        letters = _dead_letters(rejected, unit_outcomes)
        await self._dead_letters.write(letters)
        metrics.RESERVATIONS_CONSUMED_TOTAL.inc(len(records))
        return BatchResult(
            read=len(records),
            written=sum(len(batch.fresh) for batch in batches),
            dead=len(letters),
        )

    async def _write(
        self, sources: Mapping[str, tuple[ConsumerRecord, OrderReserved]]
    ) -> tuple[list[WrittenBatch], list[_Rejected]]:
        events = [event for _, event in sources.values()]
        started_s = self._clock.monotonic_s()
        with spans.of_transaction(len(events)):
            done = await write_bisecting(self._writer, events, refused_max=self._refused_max)
        metrics.ORDER_INSERT_SECONDS.observe(self._clock.monotonic_s() - started_s)
        metrics.ORDER_BATCH_MESSAGES.observe(len(events))
        _count(done.batches)
        rejected = [
            _Rejected(
                sources[event.order_no][0], "refused", f"the database refuses it: {error}", event
            )
            for event, error in done.refused
        ]
        for batch in done.batches:
            for event in batch.unknown:
                problem = f"sku {event.sku} is not registered"
                record = sources[event.order_no][0]
                rejected.append(_Rejected(record, "unknown_sku", problem, event))
        return done.batches, rejected

    async def _reject(
        self, rejected: Sequence[_Rejected]
    ) -> tuple[list[WrittenBatch], dict[str, Units]]:
        """Write rejected orders of the messages that could be read, so that their units return.

        Returns:
            What was written, and what becomes of the units, by order number.
        """
        events = {one.event.order_no: one.event for one in rejected if one.event}
        batches: list[WrittenBatch] = []
        unit_outcomes = dict.fromkeys(events, Units.HELD)
        for one in rejected:
            event = one.event
            # Without its sale there is no price, and nowhere to return units to.
            if event is None or one.cause == "unknown_sku":
                continue
            try:
                batch = await self._writer.reject([event])
            except REFUSALS:
                continue
            batches.append(batch)
            if batch.fresh or any(row["status"] == "rejected" for row in batch.found):
                unit_outcomes[event.order_no] = Units.RETURNED
            elif batch.found:
                unit_outcomes[event.order_no] = Units.ORDERED
        _count(batches)
        return batches, unit_outcomes

    async def _delay(self, batches: Sequence[WrittenBatch]) -> bool:
        """Add what is pending to the delay set; return whether Redis takes writes."""
        expire_times_s = {
            order_no: time_s
            for batch in batches
            for order_no, time_s in batch.expire_times_s().items()
        }
        return await self._delays.add(expire_times_s)

    async def _project(self, batches: Sequence[WrittenBatch]) -> None:
        # Without replacing: a payment may have written a newer state meanwhile.
        orders = [order for batch in batches for order in encode_fresh(batch)]
        orders += [
            (row["order_no"], row["status"], order_of(row).SerializeToString())
            for batch in batches
            for row in batch.found
        ]
        if not orders:
            return
        try:
            await self._projection.fill(orders)
        except DependencyUnavailable as error:
            metrics.PROJECTION_FAILURES_TOTAL.inc(len(orders))
            log.warning("projection not written", orders=len(orders), error=str(error))


def _decode(
    records: Sequence[ConsumerRecord],
) -> tuple[dict[str, tuple[ConsumerRecord, OrderReserved]], list[_Rejected]]:
    good: dict[str, tuple[ConsumerRecord, OrderReserved]] = {}
    rejected: list[_Rejected] = []
    for record in records:
        try:
            event = decode_reservation(record.value)
        except Undecodable as error:
            rejected.append(_Rejected(record, "undecodable", str(error), error.partial))
            continue
        if event.unreadable:
            problem = "its outbox entry could not be read"
            rejected.append(_Rejected(record, UNREADABLE, problem, event))
        else:
            good[event.order_no] = (record, event)
    return good, rejected


def _dead_letters(
    rejected: Sequence[_Rejected], unit_outcomes: Mapping[str, Units]
) -> list[DeadLetter]:
    letters = [
        DeadLetter(
            one.record,
            one.cause,
            one.error,
            units=unit_outcomes[one.event.order_no] if one.event else Units.UNKNOWN,
            event=one.event,
        )
        for one in rejected
    ]
    # The relay of inventory_svc has written the letter of an entry that it could not read.
    return [letter for letter in letters if letter.cause != UNREADABLE or letter.is_open]


def _count(batches: Sequence[WrittenBatch]) -> None:
    statuses = Counter(status for batch in batches for _, status in batch.fresh)
    for status, count in statuses.items():
        metrics.ORDER_TRANSITIONS_TOTAL.labels(status).inc(count)
