"""Writes batches of reservations as orders, each batch in one transaction."""

from collections.abc import Mapping, Sequence

from order_svc.database import Connection, Database, Row
from order_svc.model import WrittenBatch
from order_svc.statements import statement
from seckill.v1.events_pb2 import OrderReserved


class OrderIntake:
    """Turns reservations into orders; the database has the last word on stock.

    A reservation becomes a pending order, or a rejected one where no unit is left or its buyer
    has a live order already. Writing a batch again changes nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, events: Sequence[OrderReserved]) -> WrittenBatch:
        """Write a batch.

        Args:
            events: reservations, valid by the contract, in any order, repeated or not.

        Returns:
            What became of each of them.

        Raises:
            DependencyUnavailable: nothing was written, or all of it: write it again.
        """
        # Sorted, so that concurrent batches of the same orders meet them in the same order.
        by_number = {event.order_no: event for event in events}
        batch = [by_number[number] for number in sorted(by_number)]
        if not batch:
            return WrittenBatch(fresh=(), sales={}, found=(), unknown=())
        return await self._database.transact(lambda connection: _write(connection, batch))


async def _write(connection: Connection, batch: Sequence[OrderReserved]) -> WrittenBatch:
    skus = {event.sku for event in batch}
    locked = await connection.fetch(statement("lock_sales"), list(skus))
    sales: Mapping[str, Row] = {sale["sku"]: sale for sale in locked}
    unknown: list[OrderReserved] = []
    if len(sales) < len(skus):
        unknown = [event for event in batch if event.sku not in sales]
        batch = [event for event in batch if event.sku in sales]
    rows = await connection.fetch(
        statement("write_orders"),
        [event.order_no for event in batch],
        [event.sku for event in batch],
        [event.user_id for event in batch],
        [event.request_id for event in batch],
        [event.quantity for event in batch],
        [event.epoch for event in batch],
    )
    statuses: dict[str, str] = dict(rows)
    fresh = [(event, statuses[event.order_no]) for event in batch if event.order_no in statuses]
    found: list[Row] = []
    if len(fresh) < len(batch):
        others = [event.order_no for event in batch if event.order_no not in statuses]
        found = await connection.fetch(statement("find_orders"), others)
    return WrittenBatch(fresh=fresh, sales=sales, found=found, unknown=unknown)
