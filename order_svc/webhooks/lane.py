"""Delivers to one endpoint, beside all others: nobody waits for somebody else's."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import structlog

from order_svc import metrics
from order_svc.settings import OrderSettings
from order_svc.webhooks.deliveries import Deliveries, Delivery
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.message import webhook_of
from order_svc.webhooks.sender import Answer, WebhookSender
from seckill import failpoints
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable

log = structlog.get_logger()
# What is under way when the process ends may end in good order; shorter than the patience of
# process.py. After that it is broken off, and its claims are given back.
DRAIN_S = 5.0


class WebhookLane:
    """Sends what is due for an endpoint, at least once each; replicas share the work.

    A claim lasts longer than an attempt may. Whoever dies in between leaves it to the next, who
    sends it again under the same id. An order's events are sent one after the other.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        settings: OrderSettings,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`rng` spreads the repetitions."""
        self._endpoint = endpoint
        self._settings = settings
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._rng = rng
        self._under_way: dict[asyncio.Task[None], Delivery] = {}
        self._backoff_s = settings.order_backoff_min_s
        # By the monotonic clock; the endpoint asked for it.
        self._quiet_until_s = 0.0

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                await self._wait(await self._fill())
        finally:
            await self._drain()

    async def _fill(self) -> float:
        """Send what is due; returns how long to rest when nothing else happens, in seconds."""
        quiet_s = self._quiet_until_s - self._clock.monotonic_s()
        if quiet_s > 0:
            return quiet_s
        interval_s = self._settings.order_webhook_interval_s
        free = self._settings.order_webhook_concurrency - len(self._under_way)
        if free <= 0:
            return interval_s
        try:
            looked, claimed = await self._claim(free)
        except DependencyUnavailable as error:
            log.warning("webhooks wait", endpoint=self._endpoint.name, error=str(error))
            self._backoff_s = min(2 * self._backoff_s, self._settings.order_backoff_max_s)
            return self._backoff_s
        self._backoff_s = self._settings.order_backoff_min_s
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._under_way[task] = delivery
            task.add_done_callback(self._under_way.pop)
        # Were all that it looked at put off, there may be others behind them.
        return interval_s if looked < free or claimed else 0.0

    async def _claim(self, limit: int) -> tuple[int, list[Delivery]]:
        claiming = asyncio.create_task(
            self._deliveries.claim(
                self._endpoint.name, limit=limit, lease_s=self._settings.order_webhook_lease_s
            )
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The database may have done it: whom nobody knows of would wait for the lease's end.
            with suppress(DependencyUnavailable):
                await self._deliveries.release((await claiming)[1])
            raise

    async def _wait(self, rest_s: float) -> None:
        """Until something is delivered, or `rest_s` is over."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(rest_s)

    async def _drain(self) -> None:
        if not self._under_way:
            return
        with suppress(asyncio.CancelledError):
            await asyncio.wait(self._under_way, timeout=DRAIN_S)
        broken_off = dict(self._under_way)
        for task in broken_off:
            task.cancel()
        await asyncio.gather(*broken_off, return_exceptions=True)
        with suppress(DependencyUnavailable):
            await self._deliveries.release(list(broken_off.values()))

    async def _deliver(self, delivery: Delivery) -> None:
        """One attempt. Whatever goes wrong is this delivery's matter, never the process's."""
        try:
            answer = await self._attempt(delivery)
            await failpoints.reach("webhook.after_send")
            await self._note(delivery, answer)
        except DependencyUnavailable as error:
            # The claim runs out, and somebody sends it again.
            log.warning("webhook not noted", endpoint=self._endpoint.name, error=str(error))
        except Exception:
            log.exception("webhook failed", endpoint=self._endpoint.name, delivery=delivery.id)

    async def _attempt(self, delivery: Delivery) -> Answer:
        try:
            webhook = webhook_of(delivery.row)
        except Exception as error:
            # A defect of ours: it must end as a dead letter, not come back for ever.
            log.exception("webhook not written", delivery=delivery.id)
            return Answer(error=f"cannot be written: {type(error).__name__}")
        begun_s = self._clock.monotonic_s()
        answer = await self._sender.send(self._endpoint, webhook)
        metrics.WEBHOOK_SECONDS.labels(self._endpoint.name).observe(
            self._clock.monotonic_s() - begun_s
        )
        return answer

    async def _note(self, delivery: Delivery, answer: Answer) -> None:
        name = self._endpoint.name
        metrics.WEBHOOK_ATTEMPTS.labels(name, _result(answer)).inc()
        if answer.delivered:
            await self._deliveries.finish(delivery)
            return
        if answer.gone and await self._deliveries.mark_gone(name):
            log.error("webhook endpoint is gone", endpoint=name)
        asked_s = min(answer.retry_after_s, self._settings.order_webhook_retry_after_max_s)
        if asked_s:
            # It speaks for the endpoint, not for this delivery alone.
            self._quiet_until_s = max(self._quiet_until_s, self._clock.monotonic_s() + asked_s)
        dead = await self._deliveries.fail(
            delivery,
            answer,
            delay_s=max(asked_s, self._delay_s(delivery.attempts)),
            attempts_max=self._settings.order_webhook_attempts_max,
            age_max_s=self._settings.order_webhook_age_max_s,
        )
        if dead:
            metrics.WEBHOOK_DEAD.labels(name).inc()
        log.warning(
            "webhook not delivered",
            endpoint=name,
            delivery=delivery.id,
            attempts=delivery.attempts + 1,
            status=answer.status,
            dead=dead,
        )

    def _delay_s(self, attempts: int) -> float:
        """Doubles with each attempt up to the bound; spread, so that not all come at once."""
        settings = self._settings
        # The exponent is bounded for the sake of the float.
        delay_s = settings.order_webhook_backoff_min_s * 2.0 ** min(attempts, 64)
        return min(delay_s, settings.order_webhook_backoff_max_s) * self._rng.uniform(0.5, 1)


async def run_lanes(lanes: Sequence[WebhookLane]) -> None:
    """Run them beside each other until cancelled; then they drain at the same time."""
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(lane.run())


def _result(answer: Answer) -> str:
    if answer.delivered:
        return "delivered"
    return "refused" if answer.status is not None else "unanswered"
