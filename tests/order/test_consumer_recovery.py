"""The consumer's bounds, its patience with the database, and a client that stands still."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer
from prometheus_client import REGISTRY

from devstack import Stores
from order_svc.intake.consumer import OrderConsumer
from order_svc.intake.delays import DelayWriter
from tests.kits.consumer import (
    WAIT_TIMEOUT_S,
    Bench,
    WatchedWriter,
    number_of,
    open_bench,
    reservations,
)
from tests.kits.redis_state import full, without_writes
from tests.kits.stores import Topics
from tests.kits.waiting import eventually


@pytest.fixture
async def bench(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    async with open_bench(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as opened:
        yield opened


@pytest.mark.parametrize("refusing", [full, without_writes])
async def test_orders_are_written_while_redis_takes_no_writes(
    bench: Bench,
    refusing: Callable[["redis.asyncio.Redis"], AbstractAsyncContextManager[None]],
) -> None:
    """Nothing waits for it, and the delay set has all orders as soon as it takes writes."""
    sku = await bench.sale()
    name = "seckill_delay_failures_total"
    lost = REGISTRY.get_sample_value(name) or 0.0
    values = reservations(sku, 20)
    await bench.send(values)
    delays = DelayWriter(bench.delays)
    adding = asyncio.create_task(delays.run())
    async with refusing(bench.redis):
        assert (await bench.drain(bench.consumer(delays=delays), 20)).written == 20
    assert await bench.committed() == 20
    assert REGISTRY.get_sample_value(name) == lost + 20

    async def delayed() -> list[str]:
        return await bench.delays.those_in([number_of(value) for value in values])

    await eventually(delayed, lambda found: len(found) == 20)
    values += (later := reservations(sku, 5))
    await bench.send(later)
    assert (await bench.drain(bench.consumer(delays=delays), 5)).written == 5
    assert len(await delayed()) == 25
    adding.cancel()


async def test_a_batch_is_never_larger_than_its_bound(bench: Bench) -> None:
    """However much waits: a batch holds the lock of its sale."""
    bench.settings = bench.settings.model_copy(update={"order_batch_max": 40})
    sku = await bench.sale()
    await bench.send(reservations(sku, 200))
    consumer = bench.consumer()
    sizes: list[int] = []
    async with bench.client(consumer) as client, asyncio.timeout(WAIT_TIMEOUT_S):
        while sum(sizes) < 200:
            sizes.append((await consumer.run_once(client)).read)
    assert max(sizes) <= 40
    assert await bench.counts(sku) == (200, 200, 200, 200)


async def plant_conflicts(bench: Bench, *, sqlstate: str, times: int) -> None:
    """Make the first transactions that write orders fail, as those that meet others do."""
    await bench.sql.execute(
        f"""
        CREATE SEQUENCE conflicts;
        CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- A sequence is not rolled back.
            IF nextval('conflicts') <= {times} THEN
                RAISE EXCEPTION 'planted' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER conflict BEFORE INSERT ON orders FOR EACH STATEMENT
            EXECUTE FUNCTION conflict();
        """
    )


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"], ids=["deadlock", "serialization"])
async def test_a_transaction_that_met_another_runs_again_at_once(
    bench: Bench, sqlstate: str
) -> None:
    """The batch is neither paused nor read again: no other batch waits for it."""
    sku = await bench.sale()
    await plant_conflicts(bench, sqlstate=sqlstate, times=3)
    await bench.send(reservations(sku, 1))
    writer = WatchedWriter(bench.database)
    result = await bench.drain(bench.consumer(writer=writer), 1)
    assert (result.written, writer.refused) == (1, 0)
    assert await bench.sql.fetchval("SELECT last_value FROM conflicts") == 4
    assert await bench.counts(sku) == (1, 1, 1, 1)


async def test_transactions_that_meet_others_for_ever_are_given_up_and_repeated_later(
    bench: Bench,
) -> None:
    """After a bounded number of tries the batch is paused for, like any fault; then it is there."""
    sku = await bench.sale()
    tries = bench.settings.order_conflict_retries_max + 1
    await plant_conflicts(bench, sqlstate="40P01", times=tries)
    await bench.send(reservations(sku, 1))
    writer = WatchedWriter(bench.database)
    result = await bench.drain(bench.consumer(writer=writer), 1)
    assert (result.written, writer.refused) == (1, 1)
    assert await bench.counts(sku) == (1, 1, 1, 1)


class Stalling(OrderConsumer):
    """Its first client is alive, and reads nothing."""

    clients = 0

    def new_client(self) -> AIOKafkaConsumer:
        client = super().new_client()
        self.clients += 1
        if self.clients == 1:
            client.getmany = self._nothing
        return client

    async def _nothing(self, **_: Any) -> Mapping[Any, Any]:
        await asyncio.sleep(0.02)
        return {}


class Closed(OrderConsumer):
    """A consumer whose first client writes to a connection that is closed."""

    clients = 0

    def new_client(self) -> AIOKafkaConsumer:
        """As a working one, but for what uvloop says when the first one writes."""
        client = super().new_client()
        self.clients += 1
        if self.clients == 1:
            client.end_offsets = self._write
        return client

    async def _write(self, _: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


@pytest.mark.parametrize("kind", [Stalling, Closed])
async def test_a_client_that_stalls_or_breaks_is_recreated(
    bench: Bench, kind: type[Stalling | Closed]
) -> None:
    """Messages wait, and nothing moves or what is raised is no error of Kafka: another reads."""
    bench.settings = bench.settings.model_copy(
        update={"order_lag_interval_s": 0.1, "order_stall_timeout_s": 0.5}
    )
    sku = await bench.sale()
    await bench.send(reservations(sku, 30))
    consumer = kind(bench.settings, bench.processor(), bench.clock)
    before = REGISTRY.get_sample_value("seckill_consumer_restarts_total") or 0.0
    running = asyncio.create_task(consumer.run())

    async def written() -> bool:
        return consumer.clients == 2 and await bench.counts(sku) == (30, 30, 30, 30)

    try:
        await eventually(written, timeout_s=60)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert consumer.clients == 2
    after = REGISTRY.get_sample_value("seckill_consumer_restarts_total") or 0.0
    assert after == before + 1
