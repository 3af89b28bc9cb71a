"""Find the reservation behind what cannot be decoded in the outbox.

The buyer's hold in Redis says all that the outbox said. If the order number is still told, that is
the hold; else it is a live hold without an order: one whose number is neither in the
outbox, nor in Kafka, nor in the database. Which of them are orders after all is not decided here:
what is found goes to Kafka, marked as unreadable, and the database refuses it once, or finds its
number taken.
"""

from collections.abc import Sequence

from inventory_svc.outbox.entry import Entry, Record, Unsendable
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.sales.registry import SaleRegistry
from inventory_svc.sales.sales import Sales
from inventory_svc.stock.holds import HoldsReader
from seckill.order_no import made_at_s
from seckill.v1 import events_pb2, inventory_pb2

# A number is made before the script runs: so long a batch may have waited for Redis, and so far the
# clocks of Redis and of the services may differ.
MADE_BEFORE_S = 60.0
CLOCK_SKEW_S = 5.0
# Longest wait for each answer of OrderService; the relay does nothing else meanwhile.
LOOKUP_TIMEOUT_S = 2.0


class UnreadableEntries:
    """Finds the reservations behind what cannot be decoded, or not be sent."""

    def __init__(
        self, *, sales: Sales, holds: HoldsReader, streams: OutboxStreams, registry: SaleRegistry
    ) -> None:
        self._sales = sales
        self._holds = holds
        self._streams = streams
        self._registry = registry

    async def records(self, sku: str, damaged: Sequence[Unsendable]) -> list[Record]:
        """Return what to send to Kafka in place of these reservations of one sale.

        Returns:
            A record for each live hold that one of them was about; fewer if there is none.

        Raises:
            SeckillError: it cannot be told at this moment, e.g. consumers have not caught up.
        """
        (sale,) = await self._sales.read([sku])
        if not sale.loaded:
            return []  # with the sale its holds are gone: nothing is held
        named = {one.number for one in damaged if one.number}
        candidates = await self._candidates(sku, damaged, named)
        numbers = named & candidates.keys()
        if len(numbers) < len(damaged):
            numbers |= await self._without_order(sku, candidates.keys() - numbers)
        entry = damaged[0].entry
        return [_record(entry, candidates[number], epoch=sale.epoch) for number in sorted(numbers)]

    async def _candidates(
        self, sku: str, damaged: Sequence[Unsendable], named: set[str]
    ) -> dict[str, inventory_pb2.Hold]:
        """Return the live holds that are named, or as old as one of the entries."""
        times_s = [one.entry.made_at_s for one in damaged]
        oldest_s, youngest_s = min(times_s) - MADE_BEFORE_S, max(times_s) + CLOCK_SKEW_S
        found: dict[str, inventory_pb2.Hold] = {}
        async for part in self._holds.read(sku):
            for hold in part.holds:
                number = hold.order_no
                if hold.released:
                    continue
                if number in named or oldest_s <= made_at_s(number) <= youngest_s:
                    found[number] = hold
        return found

    async def _without_order(self, sku: str, numbers: set[str]) -> set[str]:
        """Return those of the numbers, all of live holds, that are not on the way to the database.

        The order matters: a number that has left the outbox before it is read here is in Kafka,
        and what Kafka has is awaited before the database is asked.
        """
        left = numbers - await self._streams.numbers(sku)
        if not left:
            return left
        await self._registry.await_consumed(timeout_s=LOOKUP_TIMEOUT_S)
        return left - await self._registry.known_orders(sorted(left), timeout_s=LOOKUP_TIMEOUT_S)


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
