"""A Kafka log that is shorter than what was committed: nothing new is skipped."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from prometheus_client import REGISTRY

from devstack import KafkaServer, Stores, create_topics
from order_svc.intake.barrier import ConsumerBarrier
from seckill.errors import ConsumersLagging
from tests.kits.consumer import WAIT_TIMEOUT_S, Bench, open_bench, reservations
from tests.kits.factories import new_id
from tests.kits.faults.kafka_logs import cut_logs
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

Committed = Mapping[TopicPartition, OffsetAndMetadata]


@pytest.fixture
async def bench(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics
) -> AsyncIterator[Bench]:
    """A bench on stores of the test's own."""
    async with open_bench(
        stores, database_dsn=database_dsn, redis_url=redis_url, topics=topics
    ) as opened:
        yield opened


@pytest.fixture
async def admin(stores: Stores) -> AsyncIterator[AIOKafkaAdminClient]:
    """An administrator of the broker."""
    client = AIOKafkaAdminClient(bootstrap_servers=stores.kafka_bootstrap)
    await client.start()
    yield client
    await client.close()


async def empty(bench: Bench, admin: AIOKafkaAdminClient) -> None:
    """Recreate the orders topic, without messages."""
    topic = bench.settings.orders_topic
    await admin.delete_topics([topic])

    async def gone() -> bool:
        return topic not in await admin.list_topics()

    await eventually(gone)
    await create_topics(bench.settings.kafka_bootstrap, {topic: 4})


async def recreate(bench: Bench, admin: AIOKafkaAdminClient) -> None:
    """Empty the orders topic, and keep what the group has committed of it."""
    group = bench.settings.order_consumer_group
    committed: Committed = await admin.list_consumer_group_offsets(group)
    await empty(bench, admin)
    client = AIOKafkaConsumer(
        bootstrap_servers=bench.settings.kafka_bootstrap, group_id=group, enable_auto_commit=False
    )
    await client.start()
    client.assign(list(committed))
    await client.commit(
        {partition: (entry.offset, entry.metadata) for partition, entry in committed.items()}
    )
    await client.stop()


def cuts() -> float:
    """Return how many cut logs have been noticed."""
    return REGISTRY.get_sample_value("seckill_consumer_log_cuts_total") or 0.0


@pytest.mark.parametrize("count", [8, 80], ids=["still shorter", "grown past it again"])
async def test_messages_of_a_log_that_was_cut_are_read_from_its_start(
    bench: Bench, admin: AIOKafkaAdminClient, count: int
) -> None:
    """Also those before the committed offset: they are not the ones that were read before."""
    sku = await bench.sale()
    await bench.send(reservations(sku, 40))
    await bench.drain(bench.consumer(), 40)
    before = cuts()
    await recreate(bench, admin)
    await bench.send(reservations(sku, count))
    result = await bench.drain(bench.consumer(), count)
    assert (result.read, result.written) == (count, count)
    assert await bench.counts(sku) == (40 + count,) * 4
    assert before < cuts() <= before + 4


async def test_a_log_that_grew_to_its_old_length_is_read_again(
    bench: Bench, admin: AIOKafkaAdminClient
) -> None:
    """The client's place is the end then: no message comes that would tell."""
    sku = await bench.sale()
    for _ in range(2):
        for value in reservations(sku, 5):
            await bench.producer.send_and_wait(bench.settings.orders_topic, value, partition=0)
        assert (await bench.drain(bench.consumer(), 5)).written == 5
        await recreate(bench, admin)
    assert await bench.counts(sku) == (10,) * 4


async def test_a_topic_recreated_under_a_running_client_is_read_within_seconds(
    bench: Bench, admin: AIOKafkaAdminClient
) -> None:
    """The client would look for new partitions after five minutes, by aiokafka's default."""
    sku = await bench.sale()
    await bench.send(reservations(sku, 40))
    consumer = bench.consumer()
    async with bench.client(consumer) as client, asyncio.timeout(2 * WAIT_TIMEOUT_S):
        read = 0
        while read < 40:
            read += (await consumer.run_once(client)).read
        await empty(bench, admin)
        await bench.send(reservations(sku, 8))
        while read < 48:
            read += (await consumer.run_once(client)).read
    assert await bench.counts(sku) == (48,) * 4


async def test_a_log_cut_under_a_running_client_that_grew_past_its_place_is_read_again(
    stores: Stores, database_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    """The client connects again by itself, and its next offset is there: it leads past new ones."""
    topics = Topics(orders=new_id("orders"), dead_letters=new_id("dead-letters"))
    with KafkaServer(tmp_path) as kafka:
        await create_topics(kafka.url, {topics.orders: 4, topics.dead_letters: 1})
        async with open_bench(
            replace(stores, kafka_bootstrap=kafka.url),
            database_dsn=database_dsn,
            redis_url=redis_url,
            topics=topics,
        ) as bench:
            sku = await bench.sale()
            await bench.send(reservations(sku, 40))
            consumer = bench.consumer()
            async with bench.client(consumer) as client, asyncio.timeout(2 * WAIT_TIMEOUT_S):
                read = 0
                while read < 40:
                    read += (await consumer.run_once(client)).read
                # So that it does not look before all of the new ones are there.
                client.pause(*client.assignment())
                await asyncio.to_thread(kafka.kill)
                cut_logs(kafka.directory, topics.orders, share=0.0)
                await asyncio.to_thread(kafka.start)
                await bench.send(reservations(sku, 200))
                client.resume(*client.assignment())
                while read < 240:
                    read += (await consumer.run_once(client)).read
            assert await bench.counts(sku) == (240,) * 4


async def test_a_log_that_was_cut_is_not_taken_for_consumed(
    bench: Bench, admin: AIOKafkaAdminClient
) -> None:
    """What it has now is awaited, although the committed offsets are beyond its end."""
    sku = await bench.sale()
    await bench.send(reservations(sku, 40))
    await bench.drain(bench.consumer(), 40)
    await recreate(bench, admin)
    await bench.send(reservations(sku, 8))
    barrier = ConsumerBarrier(bench.settings)
    with pytest.raises(ConsumersLagging):
        await barrier.await_consumed(timeout_s=2.0)
    await bench.drain(bench.consumer(), 8)
    await barrier.await_consumed(timeout_s=WAIT_TIMEOUT_S)


async def test_dead_letters_of_two_messages_that_had_one_offset_have_ids_of_their_own(
    bench: Bench, admin: AIOKafkaAdminClient
) -> None:
    """A reader that drops repeated ids would miss the one that came after the cut."""
    for value in (b"\xff before", b"\xff after"):
        await bench.send([value] * 8)
        assert (await bench.drain(bench.consumer(), 8)).dead == 8
        await recreate(bench, admin)
    letters = [dict(letter.headers) for letter in await bench.letters(16)]
    places = {(letter["original_partition"], letter["original_offset"]) for letter in letters}
    assert len(places) < 16
    assert len({letter["ce_id"] for letter in letters}) == 16


async def test_a_log_that_goes_on_is_not_read_again(bench: Bench) -> None:
    """By the same client, and by the next one."""
    sku = await bench.sale()
    before = cuts()
    for consumer in (bench.consumer(), bench.consumer()):
        for _ in range(2):
            await bench.send(reservations(sku, 20))
            assert (await bench.drain(consumer, 20)).read == 20
    assert await bench.counts(sku) == (80,) * 4
    assert cuts() == before


async def test_offsets_of_a_release_that_left_no_fingerprint_are_trusted(
    bench: Bench, admin: AIOKafkaAdminClient
) -> None:
    """A replica of it may still run beside this one."""
    sku = await bench.sale()
    await bench.send(reservations(sku, 20))
    consumer = bench.consumer()
    await bench.drain(consumer, 20)
    group = bench.settings.order_consumer_group
    committed: Committed = await admin.list_consumer_group_offsets(group)
    client = AIOKafkaConsumer(
        bootstrap_servers=bench.settings.kafka_bootstrap, group_id=group, enable_auto_commit=False
    )
    await client.start()
    client.assign(list(committed))
    await client.commit({partition: entry.offset for partition, entry in committed.items()})
    await client.stop()
    await bench.send(reservations(sku, 20))
    assert (await bench.drain(consumer, 20)).read == 20
