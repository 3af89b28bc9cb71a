"""Deliveries in the database: claimed, finished, failed, expired."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from order_svc.db.database import Database, Row
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.sender import Answer

# Rows that one statement of the maintenance touches; it is repeated while it finds as many.
MAINTENANCE_BATCH_MAX = 1_000
MAINTENANCE_BATCHES_MAX = 100


@dataclass(frozen=True)
class Delivery:
    """A delivery that this replica has claimed.

    Attributes:
        id: of its row.
        claimed_until: the end of the lease; it identifies the claim.
        attempts: failed attempts.
        row: the event, as events/messages.py reads it.
    """

    id: int
    claimed_until: datetime
    attempts: int
    row: Row


class Deliveries:
    """The table of deliveries. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, endpoint: str, *, limit: int, lease_s: float
    ) -> tuple[int, list[Delivery]]:
        """Claim deliveries of an endpoint that are due, the longest due first.

        Args:
            endpoint: its name.
            limit: look at so many at most.
            lease_s: after so many seconds another replica may claim them.

        Returns:
            How many were looked at, and those that may be sent now: never one whose order has an
            earlier event that this endpoint has not received.
        """
        rows = await self._database.fetch("webhooks/claim_webhooks", endpoint, limit, lease_s)
        return len(rows), [
            Delivery(row["delivery_id"], row["claimed_until"], row["attempts"], row)
            for row in rows
            if row["claimed_until"] is not None
        ]

    async def finish(self, delivery: Delivery) -> None:
        """Delete a delivered one."""
        await self._database.fetch("webhooks/finish_webhook", delivery.id)

    async def fail(
        self,
        delivery: Delivery,
        answer: Answer,
        *,
        delay_s: float,
        attempts_max: int,
        age_max_s: float,
    ) -> bool:
        """Record a failed attempt: due again after `delay_s`, unless one of the bounds is reached.

        Returns:
            Whether the delivery is dead now.
        """
        rows = await self._database.fetch(
            "webhooks/fail_webhook",
            delivery.id,
            delivery.claimed_until,
            delay_s,
            answer.status,
            answer.error,
            attempts_max,
            age_max_s,
        )
        return bool(rows and rows[0]["dead"])

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Release claims before their leases end."""
        if deliveries:
            await self._database.fetch(
                "webhooks/release_webhooks",
                [delivery.id for delivery in deliveries],
                [delivery.claimed_until for delivery in deliveries],
            )

    async def register(self, endpoints: Sequence[Endpoint], *, kept_s: float) -> None:
        """Queue the events of these endpoints from now on.

        Args:
            kept_s: how long kinds count that other replicas have named.
        """
        await self._database.fetch(
            "webhooks/register_webhook_endpoints",
            [endpoint.name for endpoint in endpoints],
            [",".join(endpoint.events) for endpoint in endpoints],
            kept_s,
        )

    async def retire(self, known: Sequence[Endpoint], *, after_s: float) -> list[str]:
        """Delete endpoints that no replica has registered for `after_s`; return their names."""
        names = [endpoint.name for endpoint in known]
        rows = await self._database.fetch("webhooks/retire_webhook_endpoints", names, after_s)
        return [row["name"] for row in rows]

    async def mark_gone(self, endpoint: str) -> bool:
        """Send nothing more to an endpoint; return False if it was marked before."""
        return bool(await self._database.fetch("webhooks/mark_webhook_gone", endpoint))

    async def expire(self, *, age_max_s: float) -> Counter[str]:
        """Give up deliveries that will not be sent any more; return how many, by endpoint."""
        expired: Counter[str] = Counter()
        for _ in range(MAINTENANCE_BATCHES_MAX):
            rows = await self._database.fetch(
                "webhooks/expire_webhooks", age_max_s, MAINTENANCE_BATCH_MAX
            )
            expired.update(row["endpoint"] for row in rows)
            if len(rows) < MAINTENANCE_BATCH_MAX:
                break
        return expired

    async def purge(self, *, keep_s: float) -> None:
        """Delete dead letters after `keep_s`."""
        for _ in range(MAINTENANCE_BATCHES_MAX):
            rows = await self._database.fetch(
                "webhooks/purge_webhooks", keep_s, MAINTENANCE_BATCH_MAX
            )
            if len(rows) < MAINTENANCE_BATCH_MAX:
                break

    async def count(self) -> list[Row]:
        """Return the rows of count_webhooks.sql."""
        return await self._database.fetch("webhooks/count_webhooks")
