"""What callers see of orders: the projection in front, the database behind."""

from collections.abc import Iterable, Sequence

import structlog

from order_svc import metrics
from order_svc.database import Row
from order_svc.model import order_of
from order_svc.projection import OrderProjection
from order_svc.repository import OrderRepository
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()


class OrderBoard:
    """Reads orders from the projection, and shows there what has changed."""

    def __init__(self, repository: OrderRepository, projection: OrderProjection) -> None:
        self._repository = repository
        self._projection = projection

    async def read(self, order_nos: Sequence[str]) -> list[bytes]:
        """A serialized Order for each number, in order; empty where there is none.

        Raises:
            DependencyUnavailable: the database does not answer, and had to be asked.
        """
        try:
            found = await self._projection.read(order_nos)
        except DependencyUnavailable:
            # Slower, but the truth: the database can answer for the projection.
            found = [None] * len(order_nos)
        missing = {number for number, order in zip(order_nos, found, strict=True) if order is None}
        if not missing:
            return [order or b"" for order in found]
        rows = await self._repository.find(list(missing))
        encoded = {row["order_no"]: order_of(row).SerializeToString() for row in rows}
        await self._quietly(rows, fill=True)
        return [
            order if order is not None else encoded.get(number, b"")
            for number, order in zip(order_nos, found, strict=True)
        ]

    async def show(self, rows: Iterable[Row]) -> None:
        """Show orders that have just changed. Never fails: the change is committed already."""
        await self._quietly(list(rows), fill=False)

    async def _quietly(self, rows: Sequence[Row], *, fill: bool) -> None:
        if not rows:
            return
        orders = [
            (row["order_no"], row["status"], order_of(row).SerializeToString()) for row in rows
        ]
        try:
            await (self._projection.fill(orders) if fill else self._projection.write(orders))
        except DependencyUnavailable as error:
            metrics.PROJECTION_FAILURES.inc(len(orders))
            log.warning("projection not written", orders=len(orders), error=str(error))
