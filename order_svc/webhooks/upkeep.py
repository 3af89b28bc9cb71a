"""Keeps the list of endpoints, buries what nobody will send, and counts."""

import asyncio
from collections.abc import Sequence

import structlog

from order_svc import metrics
from order_svc.settings import OrderSettings
from order_svc.webhooks.deliveries import Deliveries
from order_svc.webhooks.endpoints import Endpoint
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()


class WebhookUpkeep:
    """Runs in every replica, also in one without endpoints: others may have had some.

    An endpoint is told of events while any replica has it in its settings, and a while longer:
    so a rollout may add and take away endpoints, and a replica that starts with older settings
    than the others takes away nothing.
    """

    def __init__(
        self, settings: OrderSettings, deliveries: Deliveries, endpoints: Sequence[Endpoint]
    ) -> None:
        """`endpoints`: those of this replica's settings."""
        self._settings = settings
        self._deliveries = deliveries
        self._endpoints = endpoints

    async def name(self) -> None:
        """Have events queued for the endpoints from now on.

        Raises:
            DependencyUnavailable: the database does not answer.
        """
        if self._endpoints:
            await self._deliveries.name(self._endpoints)

    async def run(self) -> None:
        """Look after everything until cancelled."""
        while True:
            try:
                await self.run_once()
            except DependencyUnavailable as error:
                log.warning("webhook upkeep waits", error=str(error))
            await asyncio.sleep(self._settings.order_webhook_upkeep_interval_s)

    async def run_once(self) -> None:
        """One round.

        Raises:
            DependencyUnavailable: the database does not answer; the next round makes up for it.
        """
        await self.name()
        for name in await self._deliveries.retire(
            self._endpoints, after_s=self._settings.order_webhook_retire_s
        ):
            log.warning("webhook endpoint retired", endpoint=name)
        buried = await self._deliveries.bury(age_max_s=self._settings.order_webhook_age_max_s)
        for name, count in buried.items():
            metrics.WEBHOOK_DEAD.labels(name).inc(count)
            log.error("webhooks given up", endpoint=name, count=count)
        await self._deliveries.purge(keep_s=self._settings.order_webhook_dead_keep_s)
        await self._count()

    async def _count(self) -> None:
        rows = await self._deliveries.count()
        # Those of endpoints that were retired would stand still.
        for gauge in (metrics.WEBHOOK_WAITING, metrics.WEBHOOK_AGE, metrics.WEBHOOK_DEAD_LETTERS):
            gauge.clear()
        for row in rows:
            metrics.WEBHOOK_WAITING.labels(row["name"]).set(row["waiting"])
            metrics.WEBHOOK_AGE.labels(row["name"]).set(row["age_s"])
            metrics.WEBHOOK_DEAD_LETTERS.labels(row["name"]).set(row["dead"])
