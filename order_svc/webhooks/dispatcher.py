"""Delivers to one endpoint; each endpoint has a dispatcher, so that none waits for another."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import structlog

from order_svc import metrics
from order_svc.webhooks.deliveries import Deliveries, Delivery
from order_svc.webhooks.endpoints import Endpoint
from order_svc.webhooks.message import webhook_of
from order_svc.webhooks.send_span import traced_send
from order_svc.webhooks.sender import Answer, WebhookSender
from order_svc.webhooks.settings import WebhookSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime import failpoints, request_ids, tracing
from seckill.runtime.clock import Clock
from seckill.runtime.retry import until_success

log = structlog.get_logger()
# How long attempts in flight may take after the process was told to stop; shorter than process.py
# waits. After that they are cancelled and their claims released.
DRAIN_S = 5.0


class EndpointDispatcher:
    """Sends the due deliveries of an endpoint, at least once each; replicas share the work.

    A claim lasts longer than an attempt may. If a replica dies in between, another one sends the
    delivery again under the same id. An order's events are sent one after the other.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        settings: WebhookSettings,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`rng` adds jitter to the pauses before retries."""
        self._endpoint = endpoint
        self._settings = settings
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._rng = rng
        self._in_flight: dict[asyncio.Task[None], Delivery] = {}
        # By the monotonic clock: until then the endpoint asked not to be called.
        self._quiet_until_s = 0.0

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                rest_s = 0.0
                async for attempt in until_success(
                    f"webhook delivery to {self._endpoint.name}",
                    on=DependencyUnavailable,
                    wait_min_s=self._settings.order_backoff_min_s,
                    wait_max_s=self._settings.order_backoff_max_s,
                ):
                    with attempt:
                        rest_s = await self._fill()
                await self._wait(rest_s)
        finally:
            await self._drain()

    async def _fill(self) -> float:
        """Start due deliveries; return how many seconds to rest if none of them ends sooner.

        Raises:
            DependencyUnavailable: the database does not answer; nothing was started.
        """
        quiet_s = self._quiet_until_s - self._clock.monotonic_s()
        if quiet_s > 0:
            return quiet_s
        interval_s = self._settings.order_webhook_interval_s
        free = self._settings.order_webhook_concurrency - len(self._in_flight)
        if free <= 0:
            return interval_s
        looked, claimed = await self._claim(free)
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._in_flight[task] = delivery
            task.add_done_callback(self._in_flight.pop)
        # If all of them were put off, there may be others behind them.
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
            # The claim may have committed; release it, or these deliveries wait for the lease to
            # expire.
            with suppress(DependencyUnavailable):
                await self._deliveries.release((await claiming)[1])
            raise

    async def _wait(self, rest_s: float) -> None:
        """Return once an attempt has ended, or `rest_s` is over."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(rest_s)

    async def _drain(self) -> None:
        if not self._in_flight:
            return
        with suppress(asyncio.CancelledError):
            await asyncio.wait(self._in_flight, timeout=DRAIN_S)
        cancelled = dict(self._in_flight)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        with suppress(DependencyUnavailable):
            await self._deliveries.release(list(cancelled.values()))

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt in its own task; its failure is logged and never ends the process."""
        if call_id := delivery.row["call_id"]:
            request_ids.bind(call_id)
        try:
            answer = await self._attempt(delivery)
            await failpoints.reach("webhook.after_send")
            await self._record(delivery, answer)
        except DependencyUnavailable as error:
            # The lease expires, and a replica sends it again.
            log.warning(
                "webhook result not recorded", endpoint=self._endpoint.name, error=str(error)
            )
        except Exception:
            log.exception(
                "webhook attempt failed", endpoint=self._endpoint.name, delivery=delivery.id
            )

    async def _attempt(self, delivery: Delivery) -> Answer:
        try:
            webhook = webhook_of(delivery.row)
        except Exception as error:
            # A defect of ours: the delivery must become a dead letter, not be retried without end.
            log.exception("webhook not encoded", delivery=delivery.id)
            return Answer(error=f"cannot be encoded: {type(error).__name__}")
        started_s = self._clock.monotonic_s()
        send = self._sender.send(self._endpoint, webhook)
        answer = await (send if tracing.tracer is None else traced_send(self._endpoint, send))
        metrics.WEBHOOK_SECONDS.labels(self._endpoint.name).observe(
            self._clock.monotonic_s() - started_s
        )
        return answer

    async def _record(self, delivery: Delivery, answer: Answer) -> None:
        name = self._endpoint.name
        metrics.WEBHOOK_ATTEMPTS_TOTAL.labels(name, _result(answer)).inc()
        if answer.delivered:
            await self._deliveries.finish(delivery)
            return
        if answer.gone and await self._deliveries.mark_gone(name):
            log.error("webhook endpoint is gone", endpoint=name)
        asked_s = min(answer.retry_after_s, self._settings.order_webhook_retry_after_max_s)
        if asked_s:
            # The header applies to the endpoint, not to this delivery alone.
            self._quiet_until_s = max(self._quiet_until_s, self._clock.monotonic_s() + asked_s)
        dead = await self._deliveries.fail(
            delivery,
            answer,
            delay_s=max(asked_s, self._delay_s(delivery.attempts)),
            attempts_max=self._settings.order_webhook_attempts_max,
            age_max_s=self._settings.order_webhook_age_max_s,
        )
        if dead:
            metrics.WEBHOOK_GIVEN_UP_TOTAL.labels(name).inc()
        log.warning(
            "webhook not delivered",
            endpoint=name,
            delivery=delivery.id,
            attempts=delivery.attempts + 1,
            status=answer.status,
            dead=dead,
        )

    def _delay_s(self, attempts: int) -> float:
        """Return the pause before the next attempt; it doubles up to the bound, with jitter."""
        settings = self._settings
        # The exponent is bounded: a float overflows at 1,024.
        delay_s = settings.order_webhook_backoff_min_s * 2.0 ** min(attempts, 64)
        return min(delay_s, settings.order_webhook_backoff_max_s) * self._rng.uniform(0.5, 1)


async def run_dispatchers(dispatchers: Sequence[EndpointDispatcher]) -> None:
    """Run dispatchers side by side until cancelled; then they drain at the same time."""
    async with asyncio.TaskGroup() as group:
        for dispatcher in dispatchers:
            group.create_task(dispatcher.run())


def _result(answer: Answer) -> str:
    if answer.delivered:
        return "delivered"
    return "refused" if answer.status is not None else "unanswered"
