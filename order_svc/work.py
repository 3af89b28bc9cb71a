"""What is done with a batch of messages, apart from where they come from.

Database, then Redis, then dead letters: a crash at any point leads to the same batch being done
again, and doing it again changes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord

from order_svc import metrics
from order_svc.dead_letters import DeadLetter, DeadLetters, Units
from order_svc.intake import OrderIntake
from order_svc.isolation import REFUSALS, write_isolated
from order_svc.model import WrittenBatch, encode_fresh, order_of
from order_svc.projection import OrderProjection
from order_svc.reservations import Undecodable, decode_reservation
from seckill import failpoints
from seckill.clock import Clock
from seckill.delay import DelaySet
from seckill.v1.events_pb2 import OrderReserved

UNREADABLE = "unreadable"


@dataclass(frozen=True)
class BatchResult:
    """What a round did, in messages: read, written as orders now, and moved to dead letters."""

    read: int = 0
    written: int = 0
    dead: int = 0


@dataclass(frozen=True)
class _Bad:
    """A message that becomes no pending order; `event` is None where it cannot be told whose."""

    record: ConsumerRecord
    cause: str
    error: str
    event: OrderReserved | None


class BatchWork:
    """Brings batches of messages through."""

    def __init__(
        self,
        *,
        intake: OrderIntake,
        delays: DelaySet,
        projection: OrderProjection,
        dead_letters: DeadLetters,
        clock: Clock,
        refused_max: int,
    ) -> None:
        """`refused_max`: messages of one batch that the database may refuse, see `isolation`."""
        self._intake = intake
        self._delays = delays
        self._projection = projection
        self._dead_letters = dead_letters
        self._clock = clock
        self._refused_max = refused_max

    async def run_once(self, records: Sequence[ConsumerRecord]) -> BatchResult:
        """Bring a batch through; may be repeated.

        Raises:
            DependencyUnavailable: a store is away: do it all again.
        """
        sources, bad = _decode(records)
        batches, refused = await self._write(sources)
        bad += refused
        rejected, fates = await self._reject(bad)
        batches += rejected
        await failpoints.reach("consumer.after_commit")
        # All pending orders, also those written before: a crash between the commit and this line
        # is healed by the redelivery.
        for batch in batches:
            await self._delays.add(batch.expire_times_s())
        await failpoints.reach("consumer.after_delay")
        for batch in batches:
            await self._project(batch)
        letters = _letters(bad, fates)
        await self._dead_letters.write(letters)
        metrics.CONSUMED.inc(len(records))
        return BatchResult(
            read=len(records),
            written=sum(len(batch.fresh) for batch in batches),
            dead=len(letters),
        )

    async def _write(
        self, sources: Mapping[str, tuple[ConsumerRecord, OrderReserved]]
    ) -> tuple[list[WrittenBatch], list[_Bad]]:
        events = [event for _, event in sources.values()]
        begun_s = self._clock.monotonic_s()
        done = await write_isolated(self._intake, events, refused_max=self._refused_max)
        metrics.INSERT_SECONDS.observe(self._clock.monotonic_s() - begun_s)
        metrics.BATCH_SIZE.observe(len(events))
        _count(done.batches)
        bad = [
            _Bad(sources[event.order_no][0], "refused", f"the database refuses it: {error}", event)
            for event, error in done.refused
        ]
        for batch in done.batches:
            for event in batch.unknown:
                problem = f"sku {event.sku} is not registered"
                bad.append(_Bad(sources[event.order_no][0], "unknown_sku", problem, event))
        return done.batches, bad

    async def _reject(self, bad: Sequence[_Bad]) -> tuple[list[WrittenBatch], dict[str, Units]]:
        """Put what can be told of bad messages on record as rejected, so that units return.

        Returns:
            What was written, and what becomes of the units, by order number.
        """
        events = {one.event.order_no: one.event for one in bad if one.event}
        batches: list[WrittenBatch] = []
        fates = dict.fromkeys(events, Units.HELD)
        for one in bad:
            event = one.event
            # Without its sale there is no price, and nowhere to return units to.
            if event is None or one.cause == "unknown_sku":
                continue
            try:
                batch = await self._intake.reject([event])
            except REFUSALS:
                continue
            batches.append(batch)
            if batch.fresh or any(row["status"] == "rejected" for row in batch.found):
                fates[event.order_no] = Units.RETURNED
            elif batch.found:
                fates[event.order_no] = Units.ORDERED
        _count(batches)
        return batches, fates

    async def _project(self, batch: WrittenBatch) -> None:
        # Not over what is there: a payment may have been faster than we are.
        orders = encode_fresh(batch)
        orders += [
            (row["order_no"], row["status"], order_of(row).SerializeToString())
            for row in batch.found
        ]
        if orders:
            await self._projection.fill(orders)


def _decode(
    records: Sequence[ConsumerRecord],
) -> tuple[dict[str, tuple[ConsumerRecord, OrderReserved]], list[_Bad]]:
    good: dict[str, tuple[ConsumerRecord, OrderReserved]] = {}
    bad: list[_Bad] = []
    for record in records:
        try:
            event = decode_reservation(record.value)
        except Undecodable as error:
            bad.append(_Bad(record, "undecodable", str(error), error.remains))
            continue
        if event.unreadable:
            bad.append(_Bad(record, UNREADABLE, "its outbox entry could not be read", event))
        else:
            good[event.order_no] = (record, event)
    return good, bad


def _letters(bad: Sequence[_Bad], fates: Mapping[str, Units]) -> list[DeadLetter]:
    letters = [
        DeadLetter(
            one.record,
            one.cause,
            one.error,
            units=fates[one.event.order_no] if one.event else Units.UNKNOWN,
            event=one.event,
        )
        for one in bad
    ]
    # The relay has written the letter of an entry that it could not read.
    return [letter for letter in letters if letter.cause != UNREADABLE or letter.open]


def _count(batches: Sequence[WrittenBatch]) -> None:
    statuses = Counter(status for batch in batches for _, status in batch.fresh)
    for status, count in statuses.items():
        metrics.TRANSITIONS.labels(status).inc(count)
