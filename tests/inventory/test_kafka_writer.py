"""The Kafka writer against a real broker: what it writes by key, and what a topic refuses."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from devstack import Stores, create_topics
from seckill.errors import DependencyUnavailable
from seckill.runtime.kafka_cluster import KafkaCluster
from seckill.runtime.kafka_limits import BatchLimits
from seckill.runtime.kafka_writer import KafkaWriter, Message, open_writer
from tests.kits.factories import new_id
from tests.kits.relay import read_topic

LIMIT_BYTES = 2_000


@pytest.fixture
async def writer(stores: Stores) -> AsyncIterator[KafkaWriter]:
    """A writer to the shared broker."""
    async with open_writer(KafkaCluster(stores.kafka_bootstrap), timeout_s=10.0) as opened:
        yield opened


@pytest.fixture
async def topic(stores: Stores) -> str:
    """A topic with a small limit."""
    name = new_id("limited")
    settings = {name: {"max.message.bytes": str(LIMIT_BYTES)}}
    await create_topics(stores.kafka_bootstrap, {name: 3}, settings)
    return name


async def test_messages_of_a_key_stay_in_order_when_their_batch_is_halved(
    stores: Stores, writer: KafkaWriter, topic: str
) -> None:
    """What comes again after a refusal comes whole: the last message of each key is its last."""
    rng = random.Random(1)
    messages = [
        Message(rng.choice([b"a", b"b", b"c"]), f"{number:04d}".encode() * 10, [("h", b"1")])
        for number in range(300)
    ]
    await writer.write(topic, messages)
    seen: dict[bytes, list[bytes]] = defaultdict(list)
    for record in await read_topic(stores.kafka_bootstrap, topic, wanted_values=300):
        seen[record.key].append(record.value)
        assert record.headers == (("h", b"1"),)
    for key in (b"a", b"b", b"c"):
        written = [message.value for message in messages if message.key == key]
        assert seen[key][-len(written) :] == written


async def test_a_message_above_the_limit_of_the_topic_is_an_error(
    writer: KafkaWriter, topic: str
) -> None:
    """It says which topic; the writer goes on with others."""
    large = Message(b"key", b"x" * 2 * LIMIT_BYTES, [])
    with pytest.raises(DependencyUnavailable, match=f"{topic} cannot be written"):
        await writer.write(topic, [Message(b"key", b"small", []), large])
    await writer.write(topic, [Message(b"key", b"small", [])])


async def test_delivery_tells_what_became_of_each_message(
    stores: Stores, writer: KafkaWriter, topic: str
) -> None:
    """Some acknowledged, some too large, nothing lost between."""
    small = [Message(None, f"{number:04d}".encode() * 10, []) for number in range(200)]
    large = [Message(None, bytes([65 + number]) * 2 * LIMIT_BYTES, []) for number in range(3)]
    delivery = await writer.deliver(topic, [*small[:100], *large, *small[100:]])
    assert delivery.error is None
    assert sorted(delivery.too_large) == large
    assert sorted(delivery.acknowledged) == small
    assert sum(delivery.batch_records) == 200
    records = await read_topic(stores.kafka_bootstrap, topic, wanted_values=200)
    assert {record.value for record in records} == {message.value for message in small}


async def test_no_broker_is_an_error_within_the_timeout() -> None:
    """Nothing is acknowledged, and the cause is told."""
    async with open_writer(KafkaCluster("127.0.0.1:1"), timeout_s=0.5) as nowhere:
        delivery = await nowhere.deliver("topic", [Message(b"key", b"value", [])])
        assert (delivery.acknowledged, delivery.too_large) == ([], [])
        assert delivery.error is not None
        with pytest.raises(DependencyUnavailable):
            await nowhere.write("topic", [Message(b"key", b"value", [])])
        await nowhere.write("topic", [])


def test_limits_are_halved_where_refused_and_doubled_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each topic has its own; a reset forgets what was learned."""
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    limits = BatchLimits(1_000)
    limits.halve("a", refused=90)
    limits.halve("a", refused=80)
    limits.halve("a", refused=90)
    assert (limits.records_max("a"), limits.records_max("b")) == (40, 1_000)
    now_s += 61
    assert [limits.records_max("a"), limits.records_max("a")] == [80, 80]
    for _ in range(5):
        now_s += 61
        limits.records_max("a")
    assert limits.records_max("a") == 1_000
    limits.halve("a", refused=3)
    limits.reset("a")
    assert limits.records_max("a") == 1_000
