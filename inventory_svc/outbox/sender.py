"""Sends outbox entries to Kafka, makes dead letters of what cannot be sent, and removes both."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from inventory_svc import metrics
from inventory_svc.keys import tag_in
from inventory_svc.outbox.dead_letter import dead_letter_of
from inventory_svc.outbox.entry import Entry, Record, Unsendable, decode, refused
from inventory_svc.outbox.produce_spans import spans_of
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.outbox.topic_owner import TopicOwner
from inventory_svc.outbox.unreadable import UnreadableEntries
from inventory_svc.settings import InventorySettings
from seckill.errors import DependencyUnavailable, SeckillError
from seckill.runtime import failpoints
from seckill.runtime.clock import Clock
from seckill.runtime.kafka_writer import Delivery, KafkaWriter

# What tells an entry from all others.
EntryKey: TypeAlias = tuple[str, bytes]
TOO_LARGE = "kafka refuses it as too large"
log = structlog.get_logger()


class RelayStalled(DependencyUnavailable):
    """Kafka refuses outbox entries as too large: raise max.message.bytes of the orders topic."""


@dataclass(frozen=True, slots=True)
class RelayResult:
    """What a pass has done.

    Attributes:
        sent: reservations that Kafka has acknowledged.
        dead_lettered: those that could not be sent and are in the dead-letter topic now.
        claimed: entries taken over from a relay that had left them unfinished.
    """

    sent: int = 0
    dead_lettered: int = 0
    claimed: int = 0

    def __add__(self, other: "RelayResult") -> "RelayResult":
        return RelayResult(
            self.sent + other.sent,
            self.dead_lettered + other.dead_lettered,
            self.claimed + other.claimed,
        )

    @property
    def moved(self) -> int:
        """Reservations that need no relay any more."""
        return self.sent + self.dead_lettered


class EntrySender:
    """Moves entries that were read: an entry leaves its outbox once all its reservations are done.

    A reservation is done when Kafka has acknowledged its event, or, if it cannot be sent, its
    dead letter.
    """

    def __init__(
        self,
        streams: OutboxStreams,
        writer: KafkaWriter,
        unreadable: UnreadableEntries,
        owner: TopicOwner,
        *,
        settings: InventorySettings,
        clock: Clock,
    ) -> None:
        """
        Args:
            unreadable: finds the reservations behind what cannot be sent.
            owner: tells whether the topic is ours.
        """
        self._streams = streams
        self._writer = writer
        self._unreadable = unreadable
        self._owner = owner
        self._settings = settings
        self._clock = clock
        self._stalled_until_s = 0.0

    def check(self) -> None:
        """Raise RelayStalled while Kafka refuses entries, and their rejection, as too large."""
        if self._clock.monotonic_s() < self._stalled_until_s:
            raise RelayStalled

    async def close(self) -> None:
        """Disconnect from Kafka."""
        await self._writer.close()

    async def move(self, entries: Sequence[Entry]) -> RelayResult:
        """Send the entries' reservations; take what is done off the outboxes.

        Raises:
            DependencyUnavailable: Redis or Kafka failed, or too few replicas of Redis have the
                entries; what was not acknowledged stays.
        """
        if entries:
            await self._streams.require_confirmed(tag_in(entries[0].outbox))
        records: list[Record] = []
        unsendable: list[Unsendable] = []
        gone: list[Entry] = []
        for entry in entries:
            if entry.deleted:
                gone.append(entry)
                continue
            decoded, damaged = decode(entry)
            records += decoded
            unsendable += damaged
        if gone:
            await self._streams.remove(gone)
        spans = spans_of(entries, self._settings.orders_topic)
        if spans is not None:
            records = spans.begin(records)
        delivery = await self._send(records, unsendable)
        if spans is not None:
            spans.end(delivery)
        if not delivery.too_large:
            _require(delivery)  # without Kafka no dead letter can be written either
        unsendable += [refused(record, TOO_LARGE) for record in delivery.too_large]
        dead_lettered = await self._settle(unsendable, _unsent(records, delivery))
        _require(delivery)
        return RelayResult(sent=len(delivery.acknowledged), dead_lettered=dead_lettered)

    async def _send(
        self, records: Sequence[Record], unsendable: Sequence[Unsendable]
    ) -> Delivery[Record]:
        """Send records, and take the entries off the outbox of which Kafka has everything."""
        if not records:
            return Delivery()
        await self._owner.require()
        await failpoints.reach("relay.before_send")
        delivery = await self._writer.deliver(self._settings.orders_topic, records)
        await failpoints.reach("relay.after_ack")
        left = {one.entry.place for one in unsendable} | _unsent(records, delivery)
        left |= {record.entry.place for record in delivery.too_large}
        await self._streams.remove(_entries(delivery.acknowledged, left))
        metrics.RELAY_ENTRIES_TOTAL.inc(len(delivery.acknowledged))
        for count in delivery.batch_records:
            metrics.RELAY_BATCH_ENTRIES.observe(count)
        return delivery

    async def _settle(self, unsendable: Sequence[Unsendable], left: set[EntryKey]) -> int:
        """Dead-letter what cannot be sent, sale by sale, and take entries off that are done.

        Args:
            left: entries that stay in any case, for they have more to send.

        Returns:
            How many reservations are dead letters now.
        """
        by_outbox: dict[str, list[Unsendable]] = defaultdict(list)
        for one in unsendable:
            by_outbox[one.entry.outbox].append(one)
        dead_lettered = 0
        for outbox, damaged in by_outbox.items():
            try:
                await self._dead_letter(damaged[0].entry.sku, damaged)
                await self._streams.remove(_entries(damaged, left))
            except SeckillError as error:
                # Others do not wait for them. They stay pending, and are taken up again as entries
                # that were left unfinished for too long.
                log.warning("undecodable entries left pending", outbox=outbox, error=str(error))
                continue
            metrics.RELAY_DEAD_LETTERS_TOTAL.inc(len(damaged))
            dead_lettered += len(damaged)
        return dead_lettered

    async def _dead_letter(self, sku: str, damaged: Sequence[Unsendable]) -> None:
        """Have the units of reservations that cannot be sent returned, and make them dead letters.

        A crash at any point leaves their entries to be dead-lettered again: the database refuses a
        reservation once, and dead letters of one reservation have one id.
        """
        records = await self._unreadable.records(sku, damaged)
        if records:
            delivery = await self._writer.deliver(self._settings.orders_topic, records)
            if delivery.too_large:
                # Seen until the next try, which comes once the entries have been left alone.
                idle_s = self._settings.inventory_relay_claim_idle_s
                self._stalled_until_s = self._clock.monotonic_s() + 2 * idle_s
                raise RelayStalled
            _require(delivery)
        numbers = [record.key.decode() for record in records]
        for one in damaged:
            log.error(
                "outbox entry cannot be sent",
                sku=sku,
                entry_id=one.entry.entry_id.decode(),
                line=one.line,
                problem=one.problem,
                refused_orders=numbers,
            )
        letters = [dead_letter_of(one, refused=numbers) for one in damaged]
        await self._writer.write(self._settings.dead_letter_topic, letters)


def _unsent(records: Sequence[Record], delivery: Delivery[Record]) -> set[EntryKey]:
    """Return the entries of records that Kafka has neither acknowledged nor refused for good."""
    if delivery.error is None:
        return set()
    known = {id(record) for record in (*delivery.acknowledged, *delivery.too_large)}
    return {record.entry.place for record in records if id(record) not in known}


def _entries(some: Iterable[Record | Unsendable], left: set[EntryKey]) -> list[Entry]:
    """Return the entries of these, each once, but for those in `left`."""
    found = {id(one.entry): one.entry for one in some}
    return [entry for entry in found.values() if entry.place not in left]


def _require(delivery: Delivery[Record]) -> None:
    if delivery.error is not None:
        raise DependencyUnavailable("kafka does not take orders") from delivery.error
