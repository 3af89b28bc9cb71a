"""Reads reservations from Kafka in batches and brings each batch through.

Database, then Redis, then dead letters, then the offset: a crash at any point leads to the same
batch being read again, and doing it again changes nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from order_svc import metrics
from order_svc.pace import Pace
from order_svc.settings import OrderSettings
from order_svc.work import BatchResult, BatchWork
from seckill.clock import Clock
from seckill.errors import DependencyUnavailable

# A member of the group that is silent for this long is forgotten by Kafka.
SESSION_TIMEOUT_S = 10.0
log = structlog.get_logger()


class ConsumerStalled(Exception):
    """The client has fallen behind and reads nothing."""


class OrderConsumer:
    """Feeds batches of the orders topic to the work, and moves the offsets after it."""

    def __init__(self, settings: OrderSettings, work: BatchWork, clock: Clock) -> None:
        self._settings = settings
        self._work = work
        self._clock = clock
        self._backoff_s = settings.order_backoff_min_s
        self._lag_due_s = 0.0
        self._positions: dict[TopicPartition, int] = {}
        self._moved_s = 0.0
        self._pace = Pace(settings.order_rate_max_per_s, clock)

    async def run(self) -> None:
        """Consume until cancelled; a client that fails or stalls is closed and made anew."""
        while True:
            try:
                await self._consume()
            except (KafkaError, ConsumerStalled, TimeoutError, OSError) as error:
                metrics.CONSUMER_RESTARTS.inc()
                log.warning("kafka client is made anew", error=repr(error))
            await asyncio.sleep(self._next_backoff_s())

    def new_client(self) -> AIOKafkaConsumer:
        """A client of the group, not started."""
        settings = self._settings
        return AIOKafkaConsumer(
            settings.orders_topic,
            bootstrap_servers=settings.kafka_bootstrap,
            group_id=settings.order_consumer_group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
            max_poll_records=settings.order_batch_max,
        )

    async def _consume(self) -> None:
        client = self.new_client()
        self._positions = {}
        self._moved_s = self._clock.monotonic_s()
        try:
            # Joining waits until Kafka has forgotten a member that died. Whoever gives up before
            # that leaves the next dead member behind, and nobody ever gets in.
            async with asyncio.timeout(SESSION_TIMEOUT_S + self._settings.order_kafka_timeout_s):
                await client.start()
            while True:
                await self.run_once(client)
                await self._watch_lag(client)
        finally:
            await self._stop(client)

    async def _stop(self, client: AIOKafkaConsumer) -> None:
        # Gathered: while Kafka is away aiokafka ends this with CancelledError, which would end us
        # as well, and nobody would read orders any more.
        problems: list[BaseException | None] = await asyncio.gather(
            asyncio.wait_for(client.stop(), self._settings.order_kafka_timeout_s),
            return_exceptions=True,
        )
        for problem in filter(None, problems):
            log.warning("kafka client did not stop in good order", error=repr(problem))

    async def run_once(self, client: AIOKafkaConsumer) -> BatchResult:
        """One batch, from the poll to the offset. Where a store is away, one pause instead."""
        await asyncio.sleep(self._pace.wait_s())
        found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await client.getmany(
            timeout_ms=int(self._settings.order_poll_timeout_s * 1000),
            max_records=self._pace.batch_max(self._settings.order_batch_max),
        )
        records = [record for batch in found.values() for record in batch]
        if not records:
            return BatchResult()
        self._pace.took(len(records))
        try:
            result = await self._work.run_once(records)
        except DependencyUnavailable as error:
            await self._pause(client, found, error)
            return BatchResult()
        self._backoff_s = self._settings.order_backoff_min_s
        await self._commit(client, found)
        return result

    async def _commit(
        self, client: AIOKafkaConsumer, found: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> None:
        offsets = {partition: batch[-1].offset + 1 for partition, batch in found.items()}
        try:
            async with asyncio.timeout(self._settings.order_kafka_timeout_s):
                await client.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The partitions went to another replica meanwhile: it reads the batch again.
            log.info("offsets not moved: partitions were reassigned")

    async def _pause(
        self,
        client: AIOKafkaConsumer,
        found: Mapping[TopicPartition, Sequence[ConsumerRecord]],
        error: DependencyUnavailable,
    ) -> None:
        """Go back to the begin of the batch and wait, still a live member of the group."""
        backoff_s = self._next_backoff_s()
        log.warning("batch is repeated", error=str(error), cause=repr(error.__cause__))
        for partition, batch in found.items():
            if partition in client.assignment():
                client.seek(partition, batch[0].offset)
        # Heartbeats go on by themselves. The wait is bounded far below max.poll.interval, so
        # polling goes on too, and nobody takes the partitions from us.
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
        """Measure how far behind we are; raises ConsumerStalled where nothing moves."""
        now_s = self._clock.monotonic_s()
        if now_s < self._lag_due_s:
            return
        self._lag_due_s = now_s + self._settings.order_lag_interval_s
        async with asyncio.timeout(self._settings.order_kafka_timeout_s):
            assigned = client.assignment()
            ends = await client.end_offsets(assigned) if assigned else {}
            positions = {partition: await client.position(partition) for partition in ends}
        lag = sum(max(0, end - positions[partition]) for partition, end in ends.items())
        metrics.CONSUMER_LAG.set(lag)
        if lag == 0 or positions != self._positions:
            self._positions, self._moved_s = positions, now_s
        elif now_s - self._moved_s > self._settings.order_stall_timeout_s:
            raise ConsumerStalled(f"{lag} messages behind, none read")
