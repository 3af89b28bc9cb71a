"""Reviews a sale, and voids what an operator names of it."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from order_svc.db.database import Connection, Database, Row
from order_svc.db.statements import statement
from order_svc.hoarding.clusters import Cluster, SightedOrder, find_clusters
from order_svc.orders.repository import NO_LEASE
from seckill.errors import AuditTooLarge, SaleNotFound
from seckill.runtime import request_ids

# Orders that one call voids: its transaction holds the sale's lock.
VOIDS_MAX = 1_000
VOIDED = "voided"


class Looks(NamedTuple):
    """What makes a cluster.

    Attributes:
        orders_min: orders in it, at least.
        early_s: how soon after the start an order is early.
    """

    orders_min: int
    early_s: float


@dataclass(frozen=True, slots=True)
class Review:
    """A sale's orders, by number, and which of them belong together."""

    orders: tuple[SightedOrder, ...]
    clusters: list[Cluster]


class Meant(NamedTuple):
    """What an operator names: numbers of orders, buyers, and ids of clusters."""

    order_nos: frozenset[str]
    user_ids: frozenset[str]
    cluster_ids: frozenset[str]


class SaleReviewer:
    """Reads sales' orders, one sale at a time: each holds all orders of its sale in memory."""

    def __init__(self, database: Database, *, orders_max: int) -> None:
        """`orders_max`: orders of the largest sale that is reviewed."""
        self._database = database
        self._orders_max = orders_max
        self._lock = asyncio.Lock()

    async def review(self, sku: str, looks: Looks) -> Review:
        """Find the clusters of a sale.

        Raises:
            SaleNotFound: it is not registered.
            AuditTooLarge: it has more orders than `orders_max`.
            DependencyUnavailable: the database does not answer.
        """
        async with self._lock:
            return await self._review(sku, looks)

    async def _review(self, sku: str, looks: Looks) -> Review:
        sales = await self._database.fetch("sales/find_sale", sku)
        if not sales:
            raise SaleNotFound(metadata={"sku": sku})
        rows = await self._database.fetch("hoarding/sighted_orders", sku, self._orders_max + 1)
        if len(rows) > self._orders_max:
            raise AuditTooLarge(
                f"the sale has more than {self._orders_max} orders; SECKILL_ORDER_AUDIT_ORDERS_MAX"
                " sets how many this service reviews"
            )
        orders = tuple(SightedOrder(*row) for row in rows)
        starts_at = sales[0]["starts_at"]
        # In a thread: of a large sale it takes a second, and others call meanwhile.
        clusters = await asyncio.to_thread(
            find_clusters,
            orders,
            starts_s=None if starts_at is None else starts_at.timestamp(),
            early_s=looks.early_s,
            orders_min=looks.orders_min,
        )
        return Review(orders, clusters)


def meant_by(review: Review, meant: Meant) -> list[SightedOrder]:
    """Return the orders of a review that an operator means, by number."""
    numbers = set(meant.order_nos)
    for cluster in review.clusters:
        if cluster.id in meant.cluster_ids:
            numbers.update(order.order_no for order in cluster.orders)
    return [
        order
        for order in review.orders
        if order.order_no in numbers or order.user_id in meant.user_ids
    ]


class OrderVoids:
    """Gives units back on an operator's word. Raises DependencyUnavailable without the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def void(
        self, sku: str, order_nos: Iterable[str], *, operator: str, reason: str
    ) -> tuple[set[str], list[Row]]:
        """Cancel those of the orders that await payment, and record who did it and why.

        Args:
            sku: the sale of all these orders.
            order_nos: at most VOIDS_MAX.
            operator: who voids them.
            reason: why, in their words.

        Returns:
            The numbers cancelled now, and the rows of find_orders.sql as they are since.
        """
        numbers: Sequence[str] = sorted(order_nos)

        async def work(connection: Connection) -> tuple[set[str], list[Row]]:
            await connection.fetch(statement("orders/lock_sales_of_orders"), numbers, "pending")
            cancelled = await connection.fetch(
                statement("orders/cancel_orders"),
                numbers,
                VOIDED,
                "",
                NO_LEASE,
                request_ids.current(),
            )
            voided = [row["order_no"] for row in cancelled]
            await connection.fetch(
                statement("hoarding/record_voids"), voided, sku, operator, reason
            )
            return set(voided), await connection.fetch(statement("orders/find_orders"), numbers)

        return await self._database.transact(work)
