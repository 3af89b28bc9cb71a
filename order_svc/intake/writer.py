"""Writes batches of reservation events as orders, each batch in one transaction."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from order_svc.db.database import Connection, Database, Row
from order_svc.db.statements import statement
from order_svc.intake.written import WrittenBatch
from seckill.errors import SeckillError
from seckill.v1.events_pb2 import OrderReserved

# Writes the events of a batch that have no order yet, under the locks of their sales; returns the
# status of each order written, by number.
WriteStrategy: TypeAlias = Callable[
    [Connection, Sequence[OrderReserved], Mapping[str, Row]], Awaitable[dict[str, str]]
]


class UnplacedReservations(SeckillError):
    """Some reservation events became no order: the batch was rolled back."""


class OrderWriter:
    """Turns reservation events into orders; the database has the last word on stock.

    An event becomes a pending order, or a rejected one if no unit is left or its buyer has a live
    order already. Writing a batch again changes nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, events: Sequence[OrderReserved]) -> WrittenBatch:
        """Write a batch.

        Args:
            events: valid by the contract, in any order, repeated or not.

        Returns:
            What became of each of them.

        Raises:
            DependencyUnavailable: nothing was written, or all of it: write it again.
        """
        return await self._transact(events, _write_or_judge)

    async def reject(self, events: Sequence[OrderReserved]) -> WrittenBatch:
        """Write events that must not become pending orders as rejected ones.

        Their units return as those of any rejected order. Numbers that have an order keep it.

        Raises:
            DependencyUnavailable: nothing was written, or all of it: write it again.
        """
        return await self._transact(events, _write_rejected)

    async def _transact(
        self, events: Sequence[OrderReserved], strategy: WriteStrategy
    ) -> WrittenBatch:
        # Sorted, so that concurrent batches of the same orders lock them in the same order.
        by_number = {event.order_no: event for event in events}
        batch = [by_number[number] for number in sorted(by_number)]
        if not batch:
            return WrittenBatch(fresh=(), sales={}, found=(), unknown=())
        return await self._database.transact(lambda connection: _write(connection, batch, strategy))


async def _write(
    connection: Connection, batch: Sequence[OrderReserved], strategy: WriteStrategy
) -> WrittenBatch:
    skus = {event.sku for event in batch}
    locked = await connection.fetch(statement("intake/lock_sales"), list(skus))
    sales: Mapping[str, Row] = {sale["sku"]: sale for sale in locked}
    unknown: list[OrderReserved] = []
    if len(sales) < len(skus):
        unknown = [event for event in batch if event.sku not in sales]
        batch = [event for event in batch if event.sku in sales]
    statuses = await strategy(connection, batch, sales)
    others = [event.order_no for event in batch if event.order_no not in statuses]
    found = await connection.fetch(statement("orders/find_orders"), others) if others else []
    if len(statuses) + len(found) != len(batch):
        raise UnplacedReservations
    fresh = [(event, statuses[event.order_no]) for event in batch if event.order_no in statuses]
    return WrittenBatch(fresh=fresh, sales=sales, found=found, unknown=unknown)


async def _write_or_judge(
    connection: Connection, batch: Sequence[OrderReserved], sales: Mapping[str, Row]
) -> dict[str, str]:
    """Write those that have no order yet: pending if there is room, else as judged."""
    statuses: dict[str, str] = {}
    if _room_for_all(batch, sales):
        # The common case reads no other orders: their unique indexes decide.
        statuses = await _insert(connection, batch, [None] * len(batch))
    if len(statuses) < len(batch):
        rest = [event for event in batch if event.order_no not in statuses]
        statuses |= await _judge_and_insert(connection, rest)
    return statuses


async def _write_rejected(
    connection: Connection, batch: Sequence[OrderReserved], _sales: Mapping[str, Row]
) -> dict[str, str]:
    """Write those that have no order yet as rejected."""
    return await _insert(connection, batch, ["invalid"] * len(batch)) if batch else {}


def _room_for_all(batch: Sequence[OrderReserved], sales: Mapping[str, Row]) -> bool:
    units: Counter[str] = Counter()
    for event in batch:
        units[event.sku] += event.quantity
    return all(count <= sales[sku]["room"] for sku, count in units.items())


async def _judge_and_insert(
    connection: Connection, batch: Sequence[OrderReserved]
) -> dict[str, str]:
    """Write those of the batch that have no order yet, pending or rejected."""
    rows = await connection.fetch(
        statement("intake/judge_orders"),
        [event.order_no for event in batch],
        [event.sku for event in batch],
        [event.user_id for event in batch],
        [event.quantity for event in batch],
    )
    reasons: dict[str, str | None] = dict(rows)
    judged = [event for event in batch if event.order_no in reasons]
    if not judged:
        return {}
    return await _insert(connection, judged, [reasons[event.order_no] for event in judged])


async def _insert(
    connection: Connection, batch: Sequence[OrderReserved], reasons: Sequence[str | None]
) -> dict[str, str]:
    rows = await connection.fetch(
        statement("intake/write_orders"),
        [event.order_no for event in batch],
        [event.sku for event in batch],
        [event.user_id for event in batch],
        [event.request_id for event in batch],
        [event.quantity for event in batch],
        [event.epoch for event in batch],
        reasons,
        [event.call_id for event in batch],
    )
    return dict(rows)
