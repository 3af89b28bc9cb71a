"""What is known of buyers over all sales: counts of their orders, and sightings."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import structlog

from order_svc.db.database import Database, Row
from seckill.errors import DependencyUnavailable

# Where counting ends: nobody asks whether it is a hundred or a thousand.
COUNT_MAX = 100
# Latest sightings of a payment fingerprint that are looked at for orders that await payment.
SIGHTINGS_READ_MAX = 1_000
PRUNE_MAX = 10_000
PRUNE_INTERVAL_S = 600.0

log = structlog.get_logger()


class Sighting(NamedTuple):
    """Where an order was reserved from.

    Attributes:
        order_no: its number.
        address, fingerprint: keyed hashes of 16 bytes; empty if there was none.
    """

    order_no: str
    address: bytes
    fingerprint: bytes


class BuyerHistories:
    """Counts orders, and keeps sightings. Raises DependencyUnavailable without the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, buyers: Sequence[tuple[str, bytes]], *, window: timedelta) -> list[Row]:
        """Return a row of count_orders_of_buyers.sql for each (user, fingerprint or b"")."""
        return await self._database.fetch(
            "hoarding/count_orders_of_buyers",
            [user_id for user_id, _ in buyers],
            [fingerprint for _, fingerprint in buyers],
            window,
            COUNT_MAX,
            SIGHTINGS_READ_MAX,
        )

    async def record(self, sightings: Sequence[Sighting]) -> int:
        """Record sightings; return how many were new."""
        rows = await self._database.fetch(
            "hoarding/record_sightings",
            [sighting.order_no for sighting in sightings],
            [sighting.address for sighting in sightings],
            [sighting.fingerprint for sighting in sightings],
        )
        return len(rows)

    async def prune(self, *, kept: timedelta) -> int:
        """Forget sightings that are older than `kept`; return how many there were."""
        pruned = 0
        while True:
            rows = await self._database.fetch("hoarding/prune_sightings", kept, PRUNE_MAX)
            pruned += len(rows)
            if len(rows) < PRUNE_MAX:
                return pruned

    async def keep_pruned(self, *, kept: timedelta) -> None:
        """Prune at each interval until cancelled."""
        while True:
            try:
                pruned = await self.prune(kept=kept)
            except DependencyUnavailable as error:
                log.warning("sightings not pruned", error=str(error))
            else:
                if pruned:
                    log.info("sightings pruned", count=pruned)
            await asyncio.sleep(PRUNE_INTERVAL_S)
