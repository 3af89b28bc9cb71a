"""The relay dies, its replica takes over, Kafka goes away: each reservation arrives."""

import asyncio
import signal
from dataclasses import replace
from functools import partial
from operator import le

import grpc
import pytest

from deploy.local import KafkaServer, Stores
from seckill.v1 import inventory_pb2
from tests.factories import sale_terms
from tests.faults.conftest import MakeBuyers, MakeLine
from tests.faults.line import Line
from tests.waiting import eventually

# The consumer measures its lag, and gives up waiting for Kafka, after seconds.
SOON_TIRED = {"order_lag_interval_s": "1", "order_kafka_timeout_s": "3"}
# Each kill takes some seconds; twenty of them, which pass as well, take minutes.
KILLS, BUYERS_A_KILL = 4, 25
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


async def test_a_relay_killed_after_the_brokers_ack_makes_duplicates_and_one_row_each(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """Kafka has the batch, Redis was not told: it is sent again, and written once."""
    await line.start("order")
    await line.start("inventory", failpoints="relay.after_ack:2:kill")
    sku = await line.open_sale(sale_terms(units=100))
    buyers = make_buyers(line, sku)
    rush = asyncio.create_task(buyers.arrive(60, every_s=0.01))
    assert await line.died("inventory") == -signal.SIGKILL
    await line.start("inventory")
    assert all(attempt.outcome == RESERVED for attempt in await rush)
    assert not await line.reader.violations(sku, buyers.history)
    keys = [message.key for message in await line.reader.messages()]
    assert len(keys) > len(set(keys)) == 60


async def test_entries_of_a_killed_relay_are_claimed_by_another_replica(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """Killed between reading and sending, and never started again."""
    await line.start("order", "inventory/b")
    await line.start("inventory", failpoints="relay.before_send:3:kill")
    sku = await line.open_sale(sale_terms(units=100))
    both = make_buyers(line, sku, "inventory", "inventory/b")
    rush = asyncio.create_task(both.arrive(80, every_s=0.01))
    assert await line.died("inventory") == -signal.SIGKILL
    assert all(attempt.outcome == RESERVED for attempt in await rush)
    assert not await line.reader.violations(sku, both.history)
    assert await line.metric("inventory/b", "seckill_relay_claimed_entries_total") > 0


@pytest.mark.slow
async def test_while_kafka_is_away_buyers_are_served_up_to_the_cap_then_shed(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """RESOURCE_EXHAUSTED at the cap; when Kafka is back everything drains without a restart."""
    async with make_line(replace(own_stores, kafka_bootstrap=own_kafka.url)) as line:
        await line.start("order", "inventory", **SOON_TIRED, inventory_backlog_max="30")
        sku = await line.open_sale(sale_terms(units=100))
        buyers = make_buyers(line, sku, patience_s=60)
        await buyers.arrive(10)
        assert not await line.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_kafka.kill)
        pressed = [await buyers.press() for _ in range(45)]
        assert [attempt.outcome for attempt in pressed[:30]] == [RESERVED] * 30
        shed = pressed[30:]
        assert {attempt.code for attempt in shed} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert {attempt.reason for attempt in shed} == {"OVERLOADED"}
        # Away for so long that the consumer gives its client up.
        await eventually(lambda: line.metric("order", "seckill_consumer_restarts_total"))
        waiting = asyncio.create_task(buyers.arrive(20))
        await asyncio.to_thread(own_kafka.start)
        assert all(attempt.outcome == RESERVED for attempt in await waiting)
        assert not await line.reader.violations(sku, buyers.history)


@pytest.mark.slow
async def test_a_broker_killed_again_and_again_loses_nothing(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """SIGKILL in the middle of sending, while buyers press on."""
    async with make_line(replace(own_stores, kafka_bootstrap=own_kafka.url)) as line:
        await line.start("order", "inventory")
        sku = await line.open_sale(sale_terms(units=BUYERS_A_KILL * KILLS))
        buyers = make_buyers(line, sku)

        async def sent() -> float:
            return await line.metric("inventory", "seckill_relay_entries_total")

        for _ in range(KILLS):
            least = await sent() + 5
            rush = asyncio.create_task(buyers.arrive(BUYERS_A_KILL, every_s=0.01))
            await eventually(sent, partial(le, least), timeout_s=60)
            await asyncio.to_thread(own_kafka.kill)
            assert all(attempt.outcome == RESERVED for attempt in await rush)
            await asyncio.to_thread(own_kafka.start)
        assert not await line.reader.violations(sku, buyers.history)
        assert not buyers.history.codes, "a buyer was told of Kafka's troubles"
        assert (await line.reader.facts(sku)).sold == BUYERS_A_KILL * KILLS
