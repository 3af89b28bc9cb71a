"""The relay between a real Valkey and a real Kafka."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from devstack import KafkaServer, Stores, create_topics
from inventory_svc.keys import RELAY_GROUP, outbox_key, single_outbox_key
from inventory_svc.outbox.entry import Record
from seckill.errors import SeckillError
from seckill.runtime.kafka_writer import Delivery
from seckill.v1 import events_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import attempt
from tests.kits.keys import until_drained
from tests.kits.relay import RelayKit, numbers
from tests.kits.stores import ORDERS_PARTITIONS, Topics, one_server
from tests.kits.waiting import eventually


@pytest.fixture
async def kit(redis_url: str, stores: Stores, topics: Topics) -> AsyncIterator[RelayKit]:
    """Stock and relays on the shared servers."""
    kit = RelayKit(redis_url, stores.kafka_bootstrap, topics)
    yield kit
    await kit.close()


async def test_every_reservation_reaches_kafka_as_it_was_made(kit: RelayKit) -> None:
    """The message has all that the order needs, and the outbox is empty afterwards."""
    sku = await kit.load(sale_terms(limit=2), epoch=4)
    item = attempt(quantity=2)
    with bound_contextvars(request_id="call-0001"):
        ((_, order_no),) = await kit.reserve(sku, item)
    relay = kit.relay()
    assert (await relay.run_once()).sent == 1
    (record,) = await kit.arrived(1)
    event = events_pb2.OrderReserved.FromString(record.value)
    assert record.key == order_no.encode()
    assert event.reserve_time.ToMilliseconds() == record.timestamp
    event.ClearField("reserve_time")
    assert event == events_pb2.OrderReserved(
        order_no=order_no,
        sku=sku,
        user_id=item.user_id,
        request_id=item.request_id,
        quantity=2,
        epoch=4,
        call_id="call-0001",
    )
    assert await kit.queued(sku) == 0


async def test_running_relay_drains_many_sales_over_all_partitions(kit: RelayKit) -> None:
    """A woken relay moves all entries of several sales; batches go to the partitions in turn."""
    relay = kit.relay()
    wanted: set[str] = set()
    async with kit.running(relay):
        for _ in range(3):
            sku = await kit.load(sale_terms(units=1000))
            wanted |= await kit.buy(sku, 300)
            relay.wake(sku)
        records = await kit.arrived(900)
        assert numbers(records) == wanted
        assert len({record.partition for record in records}) > 1
        for sku in await kit.sales.skus():
            await until_drained(kit.redis, sku)


async def test_a_hot_sale_spreads_over_all_partitions_alike(kit: RelayKit) -> None:
    """Passes of one sale go to one partition after the other, whatever the keys of its events."""
    sku = await kit.load(sale_terms(units=1000))
    relay = kit.relay()
    for _ in range(2 * ORDERS_PARTITIONS):
        await kit.buy(sku, 5)
        assert (await relay.run_once()).sent == 5
    records = await kit.arrived(2 * ORDERS_PARTITIONS * 5)
    each = dict.fromkeys(range(ORDERS_PARTITIONS), 10)
    assert Counter(record.partition for record in records) == each


async def test_stopped_relay_sends_what_is_left(kit: RelayKit) -> None:
    """Entries that arrive while it is told to stop are sent before it ends."""
    sku = await kit.load(sale_terms(units=1000))
    relay = kit.relay()
    async with kit.running(relay):
        await eventually(lambda: kit.redis.exists(outbox_key(sku)))
        wanted = await kit.buy(sku, 500)
    assert await kit.queued(sku) == 0
    assert numbers(await kit.arrived(500)) == wanted


async def test_entries_of_a_dead_relay_are_taken_over(kit: RelayKit) -> None:
    """What a relay has read but not removed is sent by another one after the idle time."""
    sku = await kit.load()
    wanted = await kit.buy(sku, 5)
    await kit.redis.xreadgroup(RELAY_GROUP, "dead", {outbox_key(sku): ">"})
    async with kit.running(kit.relay()):
        assert numbers(await kit.arrived(5)) == wanted
        await until_drained(kit.redis, sku)


@one_server
async def test_failure_between_ack_and_removal_duplicates_but_loses_nothing(
    kit: RelayKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to Redis breaks once Kafka has acknowledged: the entries are sent again."""
    sku = await kit.load()
    wanted = await kit.buy(sku, 5)
    relay = kit.relay()
    deliver = relay._sender._writer.deliver

    async def deliver_then_break(topic: str, records: Sequence[Record]) -> Delivery[Record]:
        delivery = await deliver(topic, records)
        await move_redis(1)
        return delivery

    async def move_redis(port: int) -> None:
        pool: Any = kit.redis.connection_pool
        await pool.disconnect()
        pool.reset()
        pool.connection_kwargs["port"] = port

    port = kit.redis.connection_pool.connection_kwargs["port"]
    monkeypatch.setattr(relay._sender._writer, "deliver", deliver_then_break)
    with pytest.raises(SeckillError):
        await relay.run_once()
    monkeypatch.undo()
    await move_redis(port)
    assert await kit.queued(sku) == 5
    assert (await relay.run_once()).sent == 5
    assert await kit.queued(sku) == 0
    records = await kit.arrived(5)
    assert numbers(records) == wanted


async def test_cancelled_pass_removes_nothing_that_kafka_has_not(kit: RelayKit) -> None:
    """A pass cancelled at any point leaves each order in the outbox, in Kafka, or in both."""
    sku = await kit.load(sale_terms(units=1000))
    relay = kit.relay()
    wanted: set[str] = set()
    for step in range(20):
        wanted |= await kit.buy(sku, 10)
        task = asyncio.ensure_future(relay.run_once())
        for _ in range(3 * step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(relay.run_once, lambda result: result.moved == 0)
    assert await kit.queued(sku) == 0
    assert numbers(await kit.arrived(len(wanted))) == wanted


async def test_entries_of_the_older_version_are_sent_from_either_outbox(kit: RelayKit) -> None:
    """While replicas of both run, and after the last old one has died with entries read."""
    sku = await kit.load()
    wanted = await kit.buy(sku, 3)
    singles = [f"01JD0Z0000AAAAAAAAAAAAAA{n:02d}" for n in range(20)]
    for n, number in enumerate(singles):
        outbox = (outbox_key if n % 2 else single_outbox_key)(sku)
        await kit.redis.xadd(outbox, {"o": f"{number} 1 1 1700000000000 request buyer-{n}"})
    await kit.redis.xgroup_create(single_outbox_key(sku), RELAY_GROUP, id="0")
    await kit.redis.xreadgroup(RELAY_GROUP, "dead", {single_outbox_key(sku): ">"}, count=5)
    async with kit.running(kit.relay()):
        assert numbers(await kit.arrived(23)) == {*wanted, *singles}
        await eventually(lambda: kit.queued(sku), lambda left: left == 0)
    assert await kit.counted(sku) == 0


async def test_an_entry_leaves_when_all_its_reservations_are_done(kit: RelayKit) -> None:
    """One damaged line of a batch is dead-lettered, the others are sent, and then it is removed."""
    sku = await kit.load()
    item = attempt()
    results = await kit.reserve(sku, attempt(), item, attempt())
    (made,) = await kit.entries(sku)
    assert made.payload is not None
    damaged = results[1][1]
    await kit.redis.xdel(outbox_key(sku), made.entry_id)
    payload = made.payload.replace(f" {item.user_id}".encode(), b"")
    await kit.redis.xadd(outbox_key(sku), {"b": payload})
    stuck = kit.relay(dead_letter_topic=new_id("missing"))
    assert (await stuck.run_once()).sent == 2
    assert await kit.queued(sku) == 3
    relay = kit.relay()
    result = await eventually(relay.run_once, lambda result: result.moved > 0)
    assert (result.sent, result.dead_lettered, result.claimed) == (2, 1, 1)
    assert await kit.queued(sku) == 0
    events = [events_pb2.OrderReserved.FromString(one.value) for one in await kit.arrived(3)]
    assert {event.order_no for event in events if event.unreadable} == {damaged}
    assert {event.order_no for event in events if not event.unreadable} == {
        results[0][1],
        results[2][1],
    }
    (letter,) = await kit.arrived(1, topic=kit.topics.dead_letters)
    assert letter.value == f"{damaged} 1 {item.request_id}".encode()
    assert dict(letter.headers)["order_no"] == damaged.encode()


async def test_undecodable_entry_is_dead_lettered_and_holds_up_no_other(kit: RelayKit) -> None:
    """It goes to the dead-letter topic, and to the orders topic as one to refuse; others go on."""
    sku = await kit.load()
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    await kit.redis.xtrim(outbox_key(sku), maxlen=0, approximate=False)
    damaged = f"{order_no} one 1 {item.user_id}"
    await kit.redis.xadd(outbox_key(sku), {"o": damaged})
    wanted = await kit.buy(sku, 3)
    relay = kit.relay()
    result = await relay.run_once()
    assert (result.sent, result.dead_lettered) == (3, 1)
    events = [events_pb2.OrderReserved.FromString(one.value) for one in await kit.arrived(4)]
    assert {event.order_no for event in events if not event.unreadable} == wanted
    (refused,) = [event for event in events if event.unreadable]
    refused.ClearField("reserve_time")
    assert refused == events_pb2.OrderReserved(
        order_no=order_no,
        sku=sku,
        user_id=item.user_id,
        request_id=item.request_id,
        quantity=1,
        epoch=1,
        unreadable=True,
    )
    letters = await kit.arrived(1, topic=kit.topics.dead_letters)
    headers = dict(letters[0].headers)
    assert letters[0].value == damaged.encode()
    assert headers["sku"] == sku.encode()
    assert headers["ce_specversion"] == b"1.0"
    assert (headers["units"], headers["order_no"]) == (b"returned", order_no.encode())
    # Nothing is released before the database has decided.
    assert await kit.left(sku) == 6
    assert await kit.queued(sku) == 0


async def test_entry_that_cannot_be_dead_lettered_holds_up_no_other(kit: RelayKit) -> None:
    """While the dead-letter topic is missing the entry stays, and new orders still go through."""
    sku = await kit.load()
    await kit.redis.xadd(outbox_key(sku), {"o": "garbage"})
    relay = kit.relay(dead_letter_topic=new_id("missing"))
    wanted = await kit.buy(sku, 2)
    assert (await relay.run_once()).sent == 2
    wanted |= await kit.buy(sku, 2)
    assert (await relay.run_once()).sent == 2
    assert numbers(await kit.arrived(4)) == wanted
    assert await kit.queued(sku) == 1


async def test_lost_group_is_made_again_from_the_first_entry(kit: RelayKit) -> None:
    """Entries that came before the group are not forgotten."""
    sku = await kit.load()
    await kit.redis.xgroup_destroy(outbox_key(sku), RELAY_GROUP)
    wanted = await kit.buy(sku, 4)
    async with kit.running(kit.relay()):
        assert numbers(await kit.arrived(4)) == wanted


@pytest.mark.slow
async def test_relay_resumes_by_itself_when_kafka_returns(redis_url: str, tmp_path: Path) -> None:
    """Kafka killed and started again: all that was reserved meanwhile arrives, nothing restarts."""
    with KafkaServer(tmp_path / "kafka") as kafka:
        topics = Topics(orders=new_id("orders"), dead_letters=new_id("dead"))
        await create_topics(kafka.url, {topics.orders: 4, topics.dead_letters: 1})
        kit = RelayKit(redis_url, kafka.url, topics)
        sku = await kit.load(sale_terms(units=1000))
        async with kit.running(kit.relay()):
            wanted = await kit.buy(sku, 50)
            await until_drained(kit.redis, sku)
            kafka.kill()
            wanted |= await kit.buy(sku, 50)
            await eventually(
                lambda: kit.redis.xpending(outbox_key(sku), RELAY_GROUP),
                lambda pending: pending["pending"] == 1,
            )
            await asyncio.to_thread(kafka.start)
            wanted |= await kit.buy(sku, 50)
            await until_drained(kit.redis, sku)
            assert numbers(await kit.arrived(150)) == wanted
        await kit.close()
