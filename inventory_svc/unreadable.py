"""Whose units an outbox entry has taken that cannot be read.

The buyer's hold in Redis says all that the entry said. Where the entry still tells its number, that
is the hold; else it is one that has left no trace: neither in the outbox, nor in Kafka, nor in the
database. Which of them are orders after all is not decided here: what is found goes to Kafka,
marked as unreadable, and the database refuses it once, or finds its number taken.
"""

from collections.abc import Sequence

from inventory_svc.holds import HoldsReader
from inventory_svc.outbox import Entry, Record, number_in
from inventory_svc.registry import SaleRegistry
from inventory_svc.sales import Sales
from inventory_svc.streams import OutboxStreams
from seckill.order_no import made_at_s
from seckill.v1 import events_pb2, inventory_pb2

# A number is made before the script runs: so long a batch may have waited for Redis, and so far the
# clocks of Redis and of the stages may differ.
MADE_BEFORE_S = 60.0
CLOCK_SKEW_S = 5.0
# Longest wait for each answer of OrderService: the relay does nothing else meanwhile.
TRACE_TIMEOUT_S = 2.0


class UnreadableEntries:
    """Finds the reservations behind entries that cannot be read."""

    def __init__(
        self, *, sales: Sales, holds: HoldsReader, streams: OutboxStreams, registry: SaleRegistry
    ) -> None:
        self._sales = sales
        self._holds = holds
        self._streams = streams
        self._registry = registry

    async def records(self, sku: str, entries: Sequence[Entry]) -> list[Record]:
        """What to send to Kafka in place of these entries of one sale.

        Returns:
            A record for each live hold that one of them was about; fewer where none is left.

        Raises:
            SeckillError: it cannot be told at this moment, e.g. consumers have not caught up.
        """
        (sale,) = await self._sales.read([sku])
        if not sale.loaded:
            return []  # with the sale its holds are gone: nothing is held
        named = {number for entry in entries if (number := number_in(entry.payload))}
        candidates = await self._candidates(sku, entries, named)
        numbers = named & candidates.keys()
        if len(numbers) < len(entries):
            numbers |= await self._traceless(sku, candidates.keys() - numbers)
        return [
            _record(entries[0], candidates[number], epoch=sale.epoch) for number in sorted(numbers)
        ]

    async def _candidates(
        self, sku: str, entries: Sequence[Entry], named: set[str]
    ) -> dict[str, inventory_pb2.Hold]:
        """Live holds that are named, or as old as one of the entries."""
        times_s = [entry.made_at_s for entry in entries]
        begin_s, end_s = min(times_s) - MADE_BEFORE_S, max(times_s) + CLOCK_SKEW_S
        found: dict[str, inventory_pb2.Hold] = {}
        async for part in self._holds.read(sku):
            for hold in part.holds:
                number = hold.order_no
                if hold.released:
                    continue
                if number in named or begin_s <= made_at_s(number) <= end_s:
                    found[number] = hold
        return found

    async def _traceless(self, sku: str, numbers: set[str]) -> set[str]:
        """Those of the numbers, all of live holds, that are nowhere on the way to the database.

        The order matters: a number that has left the outbox before it is read here is in Kafka,
        and what Kafka has is awaited before the database is asked.
        """
        left = numbers - await self._streams.numbers(sku)
        if not left:
            return left
        await self._registry.await_consumed(timeout_s=TRACE_TIMEOUT_S)
        return left - await self._registry.known_orders(sorted(left), timeout_s=TRACE_TIMEOUT_S)


def _record(entry: Entry, hold: inventory_pb2.Hold, *, epoch: int) -> Record:
    made_ms = int(made_at_s(hold.order_no) * 1000)
    event = events_pb2.OrderReserved(
        order_no=hold.order_no,
        sku=entry.sku,
        user_id=hold.user_id,
        request_id=hold.request_id,
        quantity=hold.quantity,
        epoch=epoch,
        unreadable=True,
    )
    event.reserve_time.FromMilliseconds(made_ms)
    return Record(
        entry=entry,
        key=hold.order_no.encode(),
        value=event.SerializeToString(),
        timestamp_ms=made_ms,
    )
