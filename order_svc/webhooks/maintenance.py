"""Maintains the list of endpoints, gives up deliveries that will not be sent, and counts."""

import asyncio
from collections.abc import Sequence

import structlog

from order_svc import metrics
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.settings import WebhookSettings
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
WEBHOOK_GAUGES = (
    metrics.WEBHOOK_WAITING,
    metrics.WEBHOOK_OLDEST_AGE_SECONDS,
    metrics.WEBHOOK_DEAD_LETTERS,
)


class WebhookMaintenance:
    """Runs in every replica, also in one without endpoints: other replicas may have had some.

    An endpoint is told of events while any replica has it in its settings, and a while longer:
    so a rollout may add and remove endpoints, and a replica that starts with older settings than
    the others removes nothing.
    """

    def __init__(
        self, settings: WebhookSettings, deliveries: Deliveries, endpoints: Sequence[Endpoint]
    ) -> None:
        """`endpoints`: those of this replica's settings."""
        self._settings = settings
        self._deliveries = deliveries
        self._endpoints = endpoints

    async def register(self) -> None:
        """Queue events for the endpoints from now on.

        Raises:
            DependencyUnavailable: the database does not answer.
        """
        if self._endpoints:
            await self._deliveries.register(
                self._endpoints, kept_s=self._settings.order_webhook_retire_s
            )

    async def run(self) -> None:
        """Run a round at each interval until cancelled."""
        while True:
            try:
                await self.run_once()
            except DependencyUnavailable as error:
                log.warning("webhook maintenance skipped: database unavailable", error=str(error))
            await asyncio.sleep(self._settings.order_webhook_maintenance_interval_s)

    async def run_once(self) -> None:
        """Run one round.

        Raises:
            DependencyUnavailable: the database does not answer; the next round does all of it.
        """
        await self.register()
        for name in await self._deliveries.retire(
            self._endpoints, after_s=self._settings.order_webhook_retire_s
        ):
            log.warning("webhook endpoint retired", endpoint=name)
        expired = await self._deliveries.expire(age_max_s=self._settings.order_webhook_age_max_s)
        for name, count in expired.items():
            metrics.WEBHOOK_GIVEN_UP_TOTAL.labels(name).inc(count)
            log.error("webhook deliveries given up", endpoint=name, count=count)
        await self._deliveries.purge(keep_s=self._settings.order_webhook_dead_keep_s)
        await self._count()

    async def _count(self) -> None:
        rows = await self._deliveries.count()
        # Without this, retired endpoints would keep their last values.
        for gauge in WEBHOOK_GAUGES:
            gauge.clear()
        for row in rows:
            metrics.WEBHOOK_WAITING.labels(row["name"]).set(row["waiting"])
            metrics.WEBHOOK_OLDEST_AGE_SECONDS.labels(row["name"]).set(row["age_s"])
            metrics.WEBHOOK_DEAD_LETTERS.labels(row["name"]).set(row["dead"])
