"""Reads reservation events from Kafka in batches, and commits offsets after each batch.

Database, then Redis, then dead letters, then the offset: after a crash at any point the same batch
is read again, and processing it again changes nothing. Only Redis may be left out, if it is full or
away.
"""

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from order_svc import metrics
from order_svc.intake import spans
from order_svc.intake.batch_processor import BatchProcessor, BatchResult
from order_svc.intake.lag_age import LagAge
from order_svc.intake.log_guard import Batches, LogGuard, offsets_after
from order_svc.intake.rate_limiter import ConsumeRateLimiter
from order_svc.settings import OrderSettings
from seckill.errors import DependencyUnavailable
from seckill.runtime import request_ids
from seckill.runtime.clock import Clock
from seckill.runtime.kafka_faults import kafka_faults

# Kafka removes a member from the group that is silent for this long.
SESSION_TIMEOUT_S = 10.0
# So late a client learns of partitions that were added, or of a topic that was recreated.
METADATA_AGE_S = 10.0
log = structlog.get_logger()


class ConsumerStalled(Exception):
    """The client lags behind the topic and reads nothing."""


class OrderConsumer:
    """Hands batches of the orders topic to the processor, and commits their offsets after it."""

    def __init__(self, settings: OrderSettings, processor: BatchProcessor, clock: Clock) -> None:
        self._settings = settings
        self._processor = processor
        self._clock = clock
        self._backoff_s = settings.order_backoff_min_s
        self._lag_due_s = 0.0
        self._positions: dict[TopicPartition, int] = {}
        self._moved_s = 0.0
        self._rate_limiter = ConsumeRateLimiter(settings.order_rate_max_per_s, clock)
        self._guard = LogGuard(settings)
        self._lag_age = LagAge()

    async def run(self) -> None:
        """Consume until cancelled; a client that fails or stalls is closed and recreated."""
        while True:
            try:
                with kafka_faults():
                    await self._consume()
            except (KafkaError, ConsumerStalled, TimeoutError, OSError) as error:
                metrics.CONSUMER_RESTARTS_TOTAL.inc()
                log.warning("kafka consumer recreated", error=repr(error))
            await asyncio.sleep(self._next_backoff_s())

    def new_client(self) -> AIOKafkaConsumer:
        """Return a client of the group, not started."""
        settings = self._settings
        return AIOKafkaConsumer(
            settings.orders_topic,
            **settings.kafka_cluster().client_options,
            group_id=settings.order_consumer_group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
            metadata_max_age_ms=int(METADATA_AGE_S * 1000),
            max_poll_records=settings.order_batch_max,
        )

    async def _consume(self) -> None:
        client = self.new_client()
        self._positions = {}
        self._moved_s = self._clock.monotonic_s()
        try:
            # Joining waits until Kafka has removed a member that died. A shorter timeout would
            # leave another dead member in the group and block joins forever.
            async with asyncio.timeout(SESSION_TIMEOUT_S + self._settings.order_kafka_timeout_s):
                await client.start()
            while True:
                await self.run_once(client)
                await self._watch_lag(client)
        finally:
            await self._stop(client)

    async def _stop(self, client: AIOKafkaConsumer) -> None:
        # Gathered: while Kafka does not answer, aiokafka ends this with CancelledError, which would
        # end our own task and with it all consuming.
        problems: list[BaseException | None] = await asyncio.gather(
            asyncio.wait_for(client.stop(), self._settings.order_kafka_timeout_s),
            return_exceptions=True,
        )
        for problem in filter(None, problems):
            log.warning("kafka consumer not stopped cleanly", error=repr(problem))

    async def run_once(self, client: AIOKafkaConsumer) -> BatchResult:
        """Process one batch, from the poll to the offset; pause once if a store does not answer."""
        await asyncio.sleep(self._rate_limiter.wait_s())
        found: Batches = await client.getmany(
            timeout_ms=int(self._settings.order_poll_timeout_s * 1000),
            max_records=self._rate_limiter.batch_max(self._settings.order_batch_max),
        )
        found = await self._guard.admit(client, found)
        records = [record for batch in found.values() for record in batch]
        if not records:
            return BatchResult()
        self._rate_limiter.record(len(records))
        with request_ids.batch():
            try:
                with spans.of_batch(self._settings, records):
                    result = await self._processor.run_once(records)
            except DependencyUnavailable as error:
                await self._pause(client, found, error)
                return BatchResult()
            self._backoff_s = self._settings.order_backoff_min_s
            self._guard.note(found)
            self._lag_age.note(found)
            await self._commit(client, found)
            return result

    async def _commit(self, client: AIOKafkaConsumer, found: Batches) -> None:
        try:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                await client.commit(offsets_after(found))
        except (CommitFailedError, IllegalStateError):
            # The partitions went to another replica meanwhile: it reads the batch again.
            log.info("offsets not committed: partitions reassigned")

    async def _pause(
        self,
        client: AIOKafkaConsumer,
        found: Batches,
        error: DependencyUnavailable,
    ) -> None:
        """Seek to the start of the batch and wait, while staying a member of the group."""
        backoff_s = self._next_backoff_s()
        log.warning(
            "batch repeated: store unavailable", error=str(error), cause=repr(error.__cause__)
        )
        for partition, batch in found.items():
            if partition in client.assignment():
                client.seek(partition, batch[0].offset)
        # Heartbeats go on by themselves. The wait is bounded far below max.poll.interval, so the
        # group does not take the partitions from this member.
        assigned = client.assignment()
        client.pause(*assigned)
        await asyncio.sleep(backoff_s)
        client.resume(*(assigned & client.assignment()))
        self._moved_s = self._clock.monotonic_s()

    def _next_backoff_s(self) -> float:
        backoff_s = self._backoff_s
        self._backoff_s = min(2 * backoff_s, self._settings.order_backoff_max_s)
        return backoff_s

    async def _watch_lag(self, client: AIOKafkaConsumer) -> None:
        """Measure the lag; raises ConsumerStalled if there is one and the positions stand still."""
        now_s = self._clock.monotonic_s()
        if now_s < self._lag_due_s:
            return
        self._lag_due_s = now_s + self._settings.order_lag_interval_s
        async with asyncio.timeout(self._settings.order_kafka_timeout_s):
            assigned = client.assignment()
            ends = await client.end_offsets(assigned) if assigned else {}
            positions = {partition: await client.position(partition) for partition in ends}
        lags = {partition: max(0, end - positions[partition]) for partition, end in ends.items()}
        lag = sum(lags.values())
        metrics.CONSUMER_LAG_MESSAGES.set(lag)
        metrics.CONSUMER_LAG_SECONDS.set(self._lag_age.measure(lags, now_s=self._clock.now_s()))
        if lag == 0 or positions != self._positions:
            self._positions, self._moved_s = positions, now_s
        elif now_s - self._moved_s > self._settings.order_stall_timeout_s:
            raise ConsumerStalled(f"{lag} messages behind, none read")
