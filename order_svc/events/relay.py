"""Moves order events from their outbox to Kafka: sent, acknowledged, then deleted."""

import asyncio
from collections import Counter

from order_svc import metrics
from order_svc.db.database import Connection, Database
from order_svc.db.statements import statement
from order_svc.events.messages import message_of
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_writer import KafkaWriter
from seckill.runtime.retry import until_success


class EventRelay:
    """Sends events of the outbox, at least once each; replicas share the work.

    A batch is locked, sent and deleted in one transaction. If a replica dies in between, another
    one sends the same rows again.
    """

    def __init__(self, settings: OrderSettings, database: Database, writer: KafkaWriter) -> None:
        """`writer` must give up sooner than the database ends an idle transaction."""
        self._settings = settings
        self._database = database
        self._writer = writer

    async def run(self) -> None:
        """Relay until cancelled."""
        settings = self._settings
        while True:
            sent = 0
            async for attempt in until_success(
                "order event relay",
                on=DependencyUnavailable,
                wait_min_s=settings.order_backoff_min_s,
                wait_max_s=settings.order_backoff_max_s,
            ):
                with attempt:
                    sent = await self.run_once()
            if sent < settings.order_events_batch_max:
                await asyncio.sleep(settings.order_events_interval_s)

    async def run_once(self) -> int:
        """Send one batch.

        Returns:
            How many events were sent and deleted.

        Raises:
            DependencyUnavailable: a store does not answer; the events stay in the outbox.
        """
        kinds = await self._database.transact(self._relay)
        for kind, count in kinds.items():
            metrics.ORDER_EVENTS_SENT_TOTAL.labels(kind).inc(count)
        return kinds.total()

    async def _relay(self, connection: Connection) -> Counter[str]:
        rows = await connection.fetch(
            statement("events/take_events"), self._settings.order_events_batch_max
        )
        metrics.ORDER_EVENTS_AGE_SECONDS.set(rows[0]["age_s"] if rows else 0)
        if rows:
            await self._writer.write(
                self._settings.order_events_topic, [message_of(row) for row in rows]
            )
            await connection.execute(
                statement("events/delete_events"), [row["event_id"] for row in rows]
            )
        return Counter(row["kind"] for row in rows)
