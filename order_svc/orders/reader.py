"""Reads orders for callers: from the projection, else from the database."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import structlog
from redis.exceptions import ResponseError

from order_svc import metrics
from order_svc.db.database import Row
from order_svc.orders.model import order_of
from order_svc.orders.outdated import OutdatedOrders
from order_svc.orders.projection import OrderProjection
from order_svc.orders.repository import Change, OrderRepository
from seckill.errors import DependencyUnavailable
from seckill.runtime.retry import until_success

# Orders removed at once that could not be removed when they changed, and the pauses while Redis
# takes no writes.
OUTDATED_BATCH_MAX = 1_000
OUTDATED_WAIT_MIN_S, OUTDATED_WAIT_MAX_S = 0.1, 1.0
log = structlog.get_logger()


class OrderReader:
    """Reads orders through the projection, and keeps it in step with changes."""

    def __init__(self, repository: OrderRepository, projection: OrderProjection) -> None:
        self._repository = repository
        self._projection = projection
        self._outdated = OutdatedOrders()
        metrics.PROJECTION_OUTDATED_ORDERS.set_function(lambda: len(self._outdated))
        metrics.PROJECTION_OUTDATED_AGE_SECONDS.set_function(self._outdated.age_s)

    async def run(self) -> None:
        """Remove what the projection says of changed orders, if it could not be done at once."""
        while True:
            async for attempt in until_success(
                "remove outdated orders",
                on=DependencyUnavailable,
                wait_min_s=OUTDATED_WAIT_MIN_S,
                wait_max_s=OUTDATED_WAIT_MAX_S,
            ):
                with attempt:
                    await self.run_once()

    async def run_once(self) -> int:
        """Await outdated orders, remove them, and count them; raises DependencyUnavailable."""
        marks = await self._outdated.first(OUTDATED_BATCH_MAX)
        await self._projection.remove(marks)
        await self._projection.confirm(marks)
        self._outdated.forget(marks)
        return len(marks)

    async def read(self, order_nos: Sequence[str]) -> tuple[list[bytes], float | None]:
        """Return a serialized Order for each number, in order; empty if there is none.

        Beside them is the greatest possible age in seconds of what a replica of Redis has told, or
        None: the primary or the database has told all.

        Raises:
            DependencyUnavailable: the database had to be asked and does not answer.
        """
        try:
            found, age_s = await self._projection.read(order_nos)
        except DependencyUnavailable:
            # Slower, but right: the database can answer for the projection.
            found, age_s = [None] * len(order_nos), None
        found = [
            None if number in self._outdated else order
            for number, order in zip(order_nos, found, strict=True)
        ]
        missing = {number for number, order in zip(order_nos, found, strict=True) if order is None}
        if not missing:
            return [order or b"" for order in found], age_s
        rows = await self._repository.find(list(missing))
        encoded = {row["order_no"]: order_of(row).SerializeToString() for row in rows}
        await self._project(rows, replace=False)
        orders = [
            order if order is not None else encoded.get(number, b"")
            for number, order in zip(order_nos, found, strict=True)
        ]
        return orders, age_s

    async def publish(self, changes: Iterable[Change]) -> None:
        """Count the transitions of a call, and show its orders. Never fails.

        Whoever asks from then on, anywhere, is not told what was so before.
        """
        rows = []
        for change in changes:
            status = change.order["status"]
            if change.changed:
                metrics.ORDER_TRANSITIONS_TOTAL.labels(status).inc()
            # Also an order that was changed before: the call that changed it may have died before
            # it could show it.
            if status != "pending":
                rows.append(change.order)
        await self.show(rows)
        if rows:
            await self._projection.confirm(row["order_no"] for row in rows)

    async def show(self, rows: Sequence[Row]) -> None:
        """Write orders that have just changed to the projection. Never fails: it may be lost."""
        await self._project(rows, replace=True)

    async def _project(self, rows: Sequence[Row], *, replace: bool) -> None:
        if not rows:
            return
        orders = _encoded(rows)
        try:
            await (self._projection.write(orders) if replace else self._projection.fill(orders))
        except DependencyUnavailable as error:
            metrics.PROJECTION_FAILURES_TOTAL.inc(len(orders))
            log.warning("projection not written", orders=len(orders), error=str(error))
            if replace:
                # No poll is told what was so before these orders changed.
                refused = isinstance(error.__cause__, ResponseError)
                await self._disown([row["order_no"] for row in rows], refused=refused)

    async def _disown(self, order_nos: Sequence[str], *, refused: bool) -> None:
        if refused:
            with suppress(DependencyUnavailable):
                # A Redis that only lacks memory does it.
                await self._projection.remove(order_nos)
                return
        self._outdated.add(order_nos)


def _encoded(rows: Iterable[Row]) -> list[tuple[str, str, bytes]]:
    """Return each row as the projection has it: number, status, serialized Order."""
    return [(row["order_no"], row["status"], order_of(row).SerializeToString()) for row in rows]
