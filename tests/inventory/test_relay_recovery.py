"""Relays beside each other, in trouble with the broker, and as metrics show them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
from prometheus_client import REGISTRY

from devstack import Stores
from inventory_svc.keys import outbox_key
from inventory_svc.outbox.relay import Relay
from seckill.errors import DependencyUnavailable, Overloaded
from seckill.status import encode_details
from tests.kits.factories import sale_terms
from tests.kits.inventory import StockKit, attempt
from tests.kits.relay import RelayKit, numbers
from tests.kits.rollback import free_address
from tests.kits.stores import ORDERS_PARTITIONS, Topics
from tests.kits.waiting import eventually


@pytest.fixture
async def kit(redis_url: str, stores: Stores, topics: Topics) -> AsyncIterator[RelayKit]:
    """Stock and relays on the shared servers."""
    kit = RelayKit(redis_url, stores.kafka_bootstrap, topics)
    yield kit
    await kit.close()


async def test_replicas_share_the_work(kit: RelayKit) -> None:
    """Each of 200 batches is sent by one of two relays, and by no more."""
    sku = await kit.load(sale_terms(units=1_000))
    wanted = await kit.buy(sku, 600, batch=3)
    sent: Counter[str] = Counter()

    async def work(name: str, relay: Relay) -> None:
        while (result := await relay.run_once()).moved:
            sent[name] += result.sent

    await asyncio.gather(
        work("one", kit.relay(entries_max=50)), work("other", kit.relay(entries_max=50))
    )
    assert sent.total() == 600
    assert all(sent[name] for name in ("one", "other"))
    records = await kit.arrived(600)
    assert len(records) == 600
    assert numbers(records) == wanted


async def test_a_producer_that_has_lost_count_is_replaced(kit: RelayKit) -> None:
    """The broker refuses its sequence numbers, for ever: the next pass has another producer."""
    sku = await kit.load(sale_terms(units=100))
    relay = kit.relay()
    wanted: set[str] = set()
    # One batch to each partition: the broker knows the producer everywhere.
    for _ in range(ORDERS_PARTITIONS):
        wanted |= await kit.buy(sku, 1)
        await relay.run_once()
    producer = relay._sender._writer._producer
    assert producer is not None
    for partition in list(producer._txn_manager._sequence_numbers):
        producer._txn_manager.increment_sequence_number(partition, 1_000)
    wanted |= await kit.buy(sku, 5)
    with pytest.raises(DependencyUnavailable):
        await relay.run_once()
    assert await kit.queued(sku) == 5
    assert (await relay.run_once()).sent == 5
    assert relay._sender._writer._producer is not producer
    assert numbers(await kit.arrived(len(wanted))) == wanted


async def test_a_backlog_at_its_cap_refuses_with_a_time_to_come_again(redis_url: str) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, and nothing is written; requests known are answered."""
    kit = StockKit(redis_url, backlog_max=3)
    try:
        sku = await kit.load()
        item = attempt()
        await kit.reserve(sku, item, attempt(), attempt())
        with pytest.raises(Overloaded) as caught:
            await kit.reserve(sku, attempt())
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert b"RetryInfo" in encode_details(caught.value)
        assert (await kit.left(sku), await kit.queued(sku)) == (7, 3)
        await kit.redis.delete(outbox_key(sku))
        await kit.reserve(sku, attempt())
        assert await kit.left(sku) == 6
    finally:
        await kit.close()


async def test_depth_and_age_of_the_outbox_are_metrics(redis_url: str, topics: Topics) -> None:
    """While Kafka is away they tell how much waits, and for how long by now."""
    kit = RelayKit(redis_url, free_address(), topics)
    try:
        sku = await kit.load()
        await kit.buy(sku, 4)
        async with kit.running(kit.relay()):

            async def seen() -> tuple[float | None, float | None]:
                return (
                    REGISTRY.get_sample_value("seckill_outbox_depth"),
                    REGISTRY.get_sample_value("seckill_outbox_oldest_age_seconds"),
                )

            await eventually(seen, lambda found: found[0] == 4 and (found[1] or 0) > 0.2)
    finally:
        await kit.close()
