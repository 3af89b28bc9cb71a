"""Moves order events from their outbox to Kafka: sent, acknowledged, then deleted."""

import asyncio
from collections import Counter

import structlog

from order_svc import metrics
from order_svc.database import Connection, Database
from order_svc.event_messages import message_of
from order_svc.kafka_writer import KafkaWriter
from order_svc.settings import OrderSettings
from order_svc.statements import statement
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()


class EventRelay:
    """Sends events of the outbox, at least once each; replicas share the work.

    A batch is locked, sent and deleted in one transaction. Whoever dies in between leaves the
    rows to the next, who sends them again.
    """

    def __init__(self, settings: OrderSettings, database: Database, writer: KafkaWriter) -> None:
        """`writer` must give up sooner than the database ends an idle transaction."""
        self._settings = settings
        self._database = database
        self._writer = writer
        self._backoff_s = settings.order_backoff_min_s

    async def run(self) -> None:
        """Relay until cancelled; while a store is away, try again and again."""
        while True:
            try:
                sent = await self.run_once()
            except DependencyUnavailable as error:
                log.warning("order events wait", error=str(error), cause=repr(error.__cause__))
                await asyncio.sleep(self._backoff_s)
                self._backoff_s = min(2 * self._backoff_s, self._settings.order_backoff_max_s)
                continue
            self._backoff_s = self._settings.order_backoff_min_s
            if sent < self._settings.order_events_batch_max:
                await asyncio.sleep(self._settings.order_events_interval_s)

    async def run_once(self) -> int:
        """Send one batch.

        Returns:
            How many events were sent and forgotten.

        Raises:
            DependencyUnavailable: a store is away; the events stay where they are.
        """
        kinds = await self._database.transact(self._relay)
        for kind, count in kinds.items():
            metrics.EVENTS_SENT.labels(kind).inc(count)
        return kinds.total()

    async def _relay(self, connection: Connection) -> Counter[str]:
        rows = await connection.fetch(
            statement("take_events"), self._settings.order_events_batch_max
        )
        metrics.EVENTS_AGE.set(rows[0]["age_s"] if rows else 0)
        if rows:
            await self._writer.write(
                self._settings.order_events_topic, [message_of(row) for row in rows]
            )
            await connection.execute(statement("delete_events"), [row["event_id"] for row in rows])
        return Counter(row["kind"] for row in rows)
