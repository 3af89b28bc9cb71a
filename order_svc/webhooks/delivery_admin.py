"""What operators do with webhook deliveries: list, show, redrive, drop; and resume endpoints."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from order_svc.db.database import Database, Row
from order_svc.settling import SettleResult
from order_svc.webhooks.message import webhook_of
from seckill.errors import WebhookDeliveryNotFound


@dataclass(frozen=True)
class DeliveryRecord:
    """A delivery, dead or open, as list_webhooks.sql has it."""

    row: Row

    @property
    def id(self) -> int:
        """Its number."""
        number: int = self.row["id"]
        return number

    @property
    def state(self) -> str:
        """waiting, sending, dead or dropped."""
        if self.row["dropped_at"] is not None:
            return "dropped"
        if self.row["dead_at"] is not None:
            return "dead"
        return "waiting" if self.row["claimed_until"] is None else "sending"


class DeliveryAdmin:
    """Reads and settles deliveries. Raises DependencyUnavailable without the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, *, endpoint: str, only_dead: bool, after: int, limit: int
    ) -> list[DeliveryRecord]:
        """Return up to `limit` deliveries, oldest first.

        Args:
            endpoint: only deliveries to it; "" for all.
            only_dead: only dead deliveries that are not dropped.
            after: only deliveries with a higher id.
            limit: at most so many.
        """
        return await self._list(None, endpoint, only_dead, after, limit)

    async def get(self, delivery_id: int) -> DeliveryRecord:
        """Return one delivery; raises WebhookDeliveryNotFound."""
        found = await self._list([delivery_id], "", False, 0, 1)
        if not found:
            raise WebhookDeliveryNotFound(f"there is no delivery {delivery_id}")
        return found[0]

    async def event(self, record: DeliveryRecord) -> str:
        """Return the CloudEvent that a delivery carries, as indented JSON."""
        rows = await self._database.fetch("webhooks/find_webhook_event", record.id)
        if not rows:
            raise WebhookDeliveryNotFound(f"there is no delivery {record.id}")
        return json.dumps(json.loads(webhook_of(rows[0]).body), indent=2)

    async def redrive(self, ids: Sequence[int]) -> SettleResult[int]:
        """Make dead deliveries due now, with all their attempts."""
        done = await self._database.fetch("webhooks/redrive_webhooks", ids)
        return await self._result(ids, done)

    async def drop(self, ids: Sequence[int], *, note: str) -> SettleResult[int]:
        """Mark dead deliveries as dropped; `note` says why."""
        done = await self._database.fetch("webhooks/drop_webhooks", ids, note)
        return await self._result(ids, done)

    async def endpoints(self) -> list[Row]:
        """Return the rows of count_webhooks.sql."""
        return await self._database.fetch("webhooks/count_webhooks")

    async def resume(self, endpoint: str) -> bool:
        """Send to an endpoint again that had answered 410 Gone; return False if it had not."""
        return bool(await self._database.fetch("webhooks/resume_webhook_endpoint", endpoint))

    async def _list(
        self, ids: Sequence[int] | None, endpoint: str, only_dead: bool, after: int, limit: int
    ) -> list[DeliveryRecord]:
        rows = await self._database.fetch(
            "webhooks/list_webhooks", ids, endpoint, only_dead, after, limit
        )
        return [DeliveryRecord(row) for row in rows]

    async def _result(self, ids: Sequence[int], done: Sequence[Row]) -> SettleResult[int]:
        result = SettleResult[int](settled=len(done))
        left = sorted(set(ids) - {row["id"] for row in done})
        found: dict[int, DeliveryRecord] = {}
        if left:
            records = await self._list(left, "", False, 0, len(left))
            found = {record.id: record for record in records}
        for delivery_id in left:
            result.refused[delivery_id] = _why_not_settled(delivery_id, found.get(delivery_id))
        return result


def _why_not_settled(delivery_id: int, record: DeliveryRecord | None) -> str:
    if record is None:
        return f"there is no delivery {delivery_id}"
    if record.state != "dead":
        return f"delivery {delivery_id} is {record.state}"
    endpoint = record.row["endpoint"]
    if record.row["gone_at"] is not None:
        return f"{endpoint} answered 410 Gone; resume it first"
    return f"endpoint {endpoint} is not configured"
