"""The relay when Kafka refuses what it sends as too large."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from devstack import Stores, create_topics
from inventory_svc.keys import outbox_key, users_key
from inventory_svc.outbox.sender import RelayStalled
from inventory_svc.stock.hold import format_hold
from seckill.errors import SeckillError
from seckill.v1 import events_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import attempt
from tests.kits.keys import until_drained
from tests.kits.relay import RelayKit, numbers
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

ORDER_NO = "01JD0Z0000AAAAAAAAAAAAAAAA"


@pytest.fixture
async def kit(redis_url: str, stores: Stores, topics: Topics) -> AsyncIterator[RelayKit]:
    """Stock and relays on the shared servers."""
    kit = RelayKit(redis_url, stores.kafka_bootstrap, topics)
    yield kit
    await kit.close()


async def limit_orders_topic(kit: RelayKit, size: int) -> None:
    """Give the kit an orders topic that takes record batches of up to `size` bytes."""
    kit.topics = replace(kit.topics, orders=new_id("limited"))
    settings = {kit.topics.orders: {"max.message.bytes": str(size)}}
    await create_topics(kit.bootstrap, {kit.topics.orders: 2}, settings)


async def raise_limit(kit: RelayKit, size: int) -> None:
    """What an operator does about it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.bootstrap)
    await admin.start()
    try:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, kit.topics.orders, {"max.message.bytes": str(size)}
        )
        await admin.alter_configs([resource])
    finally:
        await admin.close()


async def test_batches_above_the_limit_of_the_topic_are_halved(kit: RelayKit) -> None:
    """A topic that takes a tenth of a batch gets every order in one pass, each batch below it."""
    await limit_orders_topic(kit, 2_000)
    sku = await kit.load(sale_terms(units=1_000))
    wanted = await kit.buy(sku, 60)
    relay = kit.relay()
    assert (await relay.run_once()).sent == 60
    assert numbers(await kit.arrived(60)) == wanted
    assert await kit.queued(sku) == 0
    # What was learned is kept: no producer is lost to the next batches.
    producer = relay._sender._writer._producer
    wanted |= await kit.buy(sku, 60)
    assert (await relay.run_once()).sent == 60
    assert relay._sender._writer._producer is producer
    assert numbers(await kit.arrived(120)) == wanted
    await relay.check()


async def test_an_entry_too_large_for_kafka_is_dead_lettered_and_holds_up_no_other(
    kit: RelayKit,
) -> None:
    """Its order is refused by what the hold says; its dead letter has its start."""
    sku = await kit.load(sale_terms(units=1_000))
    await kit.redis.hset(
        users_key(sku), "buyer", format_hold(ORDER_NO, quantity=1, request_id="first")
    )
    huge = f"{ORDER_NO} 1 1 1700000000000 first {'b' * 2_000_000}"
    await kit.redis.xadd(outbox_key(sku), {"o": huge})
    wanted = await kit.buy(sku, 30)
    relay = kit.relay()
    result = await relay.run_once()
    assert (result.sent, result.dead_lettered) == (30, 1)
    events = [events_pb2.OrderReserved.FromString(one.value) for one in await kit.arrived(31)]
    assert {event.order_no for event in events if not event.unreadable} == wanted
    assert [event.order_no for event in events if event.unreadable] == [ORDER_NO]
    (letter,) = await kit.arrived(1, topic=kit.topics.dead_letters)
    assert letter.value == huge[:65_536].encode()
    assert dict(letter.headers)["error"] == b"kafka refuses it as too large"
    assert await kit.queued(sku) == 0
    await relay.check()


async def test_a_limit_below_a_single_entry_makes_unready_until_it_is_raised(
    kit: RelayKit,
) -> None:
    """Smaller entries still go; the others wait, are shown, and go once the topic takes them."""
    await limit_orders_topic(kit, 280)
    sku = await kit.load(sale_terms(units=1_000))
    short = await kit.buy(sku, 5)
    long = attempt(f"{'b' * 100}-{new_id('buyer')}", request_id="r" * 64)
    ((_, number),) = await kit.reserve(sku, long)
    relay = kit.relay()
    assert (await relay.run_once()).sent == 5
    assert numbers(await kit.arrived(5)) == short
    with pytest.raises(RelayStalled, match=r"max\.message\.bytes"):
        await relay.check()
    assert await kit.queued(sku) == 1
    await raise_limit(kit, 10_000)
    async with kit.running(relay):
        assert numbers(await kit.arrived(6)) == {*short, number}
        await until_drained(kit.redis, sku)

        async def ready() -> bool:
            try:
                await relay.check()
            except SeckillError:
                return False
            return True

        await eventually(ready)
