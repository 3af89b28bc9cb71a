"""Deliveries in the database: claimed, finished, failed, buried."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from order_svc.database import Database, Row
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.sender import Answer

# Rows that one statement of the upkeep touches; it is repeated while it finds as many.
UPKEEP_BATCH_MAX = 1_000
UPKEEP_BATCHES_MAX = 100


@dataclass(frozen=True)
class Delivery:
    """A delivery that is ours for a while.

    Attributes:
        id: of its row.
        claimed_until: until when; proves that it is ours.
        attempts: how often it was sent in vain.
        row: the event, as event_messages.py reads it.
    """

    id: int
    claimed_until: datetime
    attempts: int
    row: Row


class Deliveries:
    """Their table. Raises DependencyUnavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, endpoint: str, *, limit: int, lease_s: float
    ) -> tuple[int, list[Delivery]]:
        """Claim deliveries of an endpoint that are due, the longest due first.

        Args:
            endpoint: its name.
            limit: look at so many at most.
            lease_s: after this time in seconds they are anybody's again.

        Returns:
            How many were looked at, and those that may be sent now: never one whose order has an
            earlier event that this endpoint has not got.
        """
        rows = await self._database.fetch("claim_webhooks", endpoint, limit, lease_s)
        return len(rows), [
            Delivery(row["delivery_id"], row["claimed_until"], row["attempts"], row)
            for row in rows
            if row["claimed_until"] is not None
        ]

    async def finish(self, delivery: Delivery) -> None:
        """It is delivered."""
        await self._database.fetch("finish_webhook", delivery.id)

    async def fail(
        self,
        delivery: Delivery,
        answer: Answer,
        *,
        delay_s: float,
        attempts_max: int,
        age_max_s: float,
    ) -> bool:
        """It was sent in vain: again after `delay_s`, unless one of the bounds is reached.

        Returns:
            Whether it is a dead letter now.
        """
        rows = await self._database.fetch(
            "fail_webhook",
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
        """Give claims back at once."""
        if deliveries:
            await self._database.fetch(
                "release_webhooks",
                [delivery.id for delivery in deliveries],
                [delivery.claimed_until for delivery in deliveries],
            )

    async def name(self, endpoints: Sequence[Endpoint]) -> None:
        """Have the events of these queued from now on."""
        await self._database.fetch(
            "name_webhook_endpoints",
            [endpoint.name for endpoint in endpoints],
            [",".join(endpoint.events) for endpoint in endpoints],
        )

    async def retire(self, known: Sequence[Endpoint], *, after_s: float) -> list[str]:
        """Forget endpoints that nobody has named for `after_s`; returns their names."""
        names = [endpoint.name for endpoint in known]
        rows = await self._database.fetch("retire_webhook_endpoints", names, after_s)
        return [row["name"] for row in rows]

    async def mark_gone(self, endpoint: str) -> bool:
        """Send it nothing more; whether that is new."""
        return bool(await self._database.fetch("mark_webhook_gone", endpoint))

    async def bury(self, *, age_max_s: float) -> Counter[str]:
        """Make dead letters of what nobody will send; how many, by endpoint."""
        buried: Counter[str] = Counter()
        for _ in range(UPKEEP_BATCHES_MAX):
            rows = await self._database.fetch("bury_webhooks", age_max_s, UPKEEP_BATCH_MAX)
            buried.update(row["endpoint"] for row in rows)
            if len(rows) < UPKEEP_BATCH_MAX:
                break
        return buried

    async def purge(self, *, keep_s: float) -> None:
        """Forget dead letters after `keep_s`."""
        for _ in range(UPKEEP_BATCHES_MAX):
            rows = await self._database.fetch("purge_webhooks", keep_s, UPKEEP_BATCH_MAX)
            if len(rows) < UPKEEP_BATCH_MAX:
                break

    async def count(self) -> list[Row]:
        """Rows of count_webhooks.sql."""
        return await self._database.fetch("count_webhooks")
