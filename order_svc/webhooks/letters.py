"""Deliveries as operators see them: listed, shown, tried again, laid aside."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from order_svc.database import Row, database_faults
from order_svc.statements import statement
from order_svc.webhooks.message import webhook_of
from seckill.errors import DependencyUnavailable, SeckillError

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
# Settled by one command at most.
SETTLED_MAX = 10_000


class DeliveryRefused(SeckillError):
    """This cannot be done with this delivery."""


@dataclass(frozen=True)
class Letter:
    """A delivery, dead or open, as list_webhooks.sql has it."""

    row: Row

    @property
    def id(self) -> int:
        """Its number."""
        number: int = self.row["id"]
        return number

    @property
    def state(self) -> str:
        """waiting, being sent, dead or dropped."""
        if self.row["dropped_at"] is not None:
            return "dropped"
        if self.row["dead_at"] is not None:
            return "dead"
        return "waiting" if self.row["claimed_until"] is None else "being sent"


class WebhookBox:
    """Reads and settles deliveries. Raises DependencyUnavailable where there is no answer."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def letters(
        self,
        *,
        ids: Sequence[int] | None = None,
        endpoint: str = "",
        only_dead: bool = False,
        limit: int = SETTLED_MAX,
    ) -> list[Letter]:
        """Deliveries, oldest first.

        Args:
            ids: only these; None for all.
            endpoint: only its; "" for all.
            only_dead: only dead letters that nobody has dropped.
            limit: at most so many.
        """
        rows = await self._fetch("list_webhooks", ids, endpoint, only_dead, limit)
        return [Letter(row) for row in rows]

    async def event(self, letter: Letter) -> dict[str, Any]:
        """The CloudEvent that a delivery carries."""
        (row,) = await self._fetch("find_webhook_event", letter.id)
        event: dict[str, Any] = json.loads(webhook_of(row).body)
        return event

    async def redrive(self, letter: Letter) -> None:
        """Send a dead letter again, with all its attempts, from now on.

        Raises:
            DeliveryRefused: it is not dead, was dropped, or nobody would send it.
        """
        if not await self._fetch("redrive_webhooks", [letter.id]):
            raise DeliveryRefused(f"delivery {letter.id}: {await self._why_not(letter.id)}")

    async def drop(self, letter: Letter, *, note: str) -> None:
        """Lay a dead letter aside, and say why.

        Raises:
            DeliveryRefused: it is not dead, or was dropped.
        """
        if not await self._fetch("drop_webhooks", [letter.id], note):
            raise DeliveryRefused(f"delivery {letter.id}: {await self._why_not(letter.id)}")

    async def endpoints(self) -> list[Row]:
        """Rows of count_webhooks.sql."""
        return await self._fetch("count_webhooks")

    async def resume(self, endpoint: str) -> None:
        """Send to an endpoint again that had answered 410 Gone.

        Raises:
            DeliveryRefused: it had not.
        """
        if not await self._fetch("resume_webhook_endpoint", endpoint):
            raise DeliveryRefused(f"endpoint {endpoint} is not gone, or not known")

    async def _why_not(self, number: int) -> str:
        found = await self.letters(ids=[number])
        if not found:
            return "it is not there any more"
        (letter,) = found
        if letter.state != "dead":
            return f"it is {letter.state}"
        row = letter.row
        if row["gone_at"] is not None:
            return f"{row['endpoint']} answered 410 Gone; resume it first"
        return f"{row['endpoint']} is in nobody's settings"

    async def _fetch(self, name: str, *arguments: Any) -> list[Row]:
        with database_faults():
            rows: list[Row] = await self._connection.fetch(statement(name), *arguments)
        return rows


@asynccontextmanager
async def open_box(dsn: str) -> AsyncIterator[WebhookBox]:
    """A box on a connection of its own.

    Raises:
        DependencyUnavailable: the database cannot be reached, or has no webhooks yet.
    """
    try:
        with database_faults():
            connection = await asyncpg.connect(
                dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S
            )
    except asyncpg.PostgresError as error:
        raise DependencyUnavailable(f"the database cannot be opened: {error}") from error
    try:
        yield WebhookBox(connection)
    except asyncpg.UndefinedTableError as error:
        raise DependencyUnavailable(f"the database is not migrated: {error}") from error
    finally:
        await connection.close()
