"""Each reservation reaches Kafka although the relay dies or Kafka is away."""

import asyncio
import signal
from dataclasses import replace
from functools import partial
from operator import le

import grpc
import pytest

from devstack import KafkaServer, Stores
from seckill.client import Outcome
from tests.kits.factories import sale_terms
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.history import reason_of
from tests.kits.waiting import eventually

# The consumer measures its lag, and gives up waiting for Kafka, after seconds.
SOON_TIRED = {"order_lag_interval_s": "1", "order_kafka_timeout_s": "3"}
# Each kill takes some seconds; twenty of them, which pass as well, take minutes.
KILLS, BUYERS_A_KILL = 4, 25
RESERVED = Outcome.RESERVED


async def test_a_relay_killed_after_the_brokers_ack_makes_duplicates_and_one_row_each(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """A batch that Kafka has and Redis does not know of is sent again, and written once."""
    await cluster.start("order")
    await cluster.start("inventory", failpoints="relay.after_ack:2:kill")
    sku = await cluster.open_sale(sale_terms(units=100))
    buyers = make_buyers(cluster, sku)
    rush = asyncio.create_task(buyers.arrive(60, every_s=0.01))
    assert await cluster.wait_exit("inventory") == -signal.SIGKILL
    await cluster.start("inventory")
    assert all(attempt.outcome == RESERVED for attempt in await rush)
    assert not await cluster.reader.violations(sku, buyers.history)
    keys = [message.key for message in await cluster.reader.messages()]
    assert len(keys) > len(set(keys)) == 60


async def test_entries_of_a_killed_relay_are_claimed_by_another_replica(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """What a relay had read and not sent when it was killed is sent by another replica."""
    await cluster.start("order", "inventory/b")
    await cluster.start("inventory", failpoints="relay.before_send:3:kill")
    sku = await cluster.open_sale(sale_terms(units=100))
    both = make_buyers(cluster, sku, "inventory", "inventory/b")
    rush = asyncio.create_task(both.arrive(80, every_s=0.01))
    assert await cluster.wait_exit("inventory") == -signal.SIGKILL
    assert all(attempt.outcome == RESERVED for attempt in await rush)
    assert not await cluster.reader.violations(sku, both.history)
    assert await cluster.metric("inventory/b", "seckill_relay_claimed_entries_total") > 0


@pytest.mark.slow
async def test_while_kafka_is_away_buyers_are_served_up_to_the_cap_then_shed(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """Buyers get RESOURCE_EXHAUSTED at the cap; the outbox drains once Kafka is back."""
    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await cluster.start("order", "inventory", **SOON_TIRED, inventory_backlog_max="30")
        sku = await cluster.open_sale(sale_terms(units=100))
        buyers = make_buyers(cluster, sku, patience_s=60)
        await buyers.arrive(10)
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_kafka.kill)
        made = [await buyers.attempt() for _ in range(45)]
        assert [attempt.outcome for attempt in made[:30]] == [RESERVED] * 30
        shed = made[30:]
        assert {reason_of(attempt) for attempt in shed} == {"OVERLOADED"}
        assert buyers.history.codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        # Away for so long that the consumer gives its client up.
        await eventually(lambda: cluster.metric("order", "seckill_consumer_restarts_total"))
        waiting = asyncio.create_task(buyers.arrive(20))
        await asyncio.to_thread(own_kafka.start)
        assert all(attempt.outcome == RESERVED for attempt in await waiting)
        assert not await cluster.reader.violations(sku, buyers.history)


@pytest.mark.slow
async def test_a_broker_killed_again_and_again_loses_nothing(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """Each kill of the broker comes in the middle of a rush, and no buyer notices it."""
    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await cluster.start("order", "inventory")
        sku = await cluster.open_sale(sale_terms(units=BUYERS_A_KILL * KILLS))
        buyers = make_buyers(cluster, sku)

        async def sent() -> float:
            return await cluster.metric("inventory", "seckill_relay_entries_total")

        for _ in range(KILLS):
            least = await sent() + 5
            rush = asyncio.create_task(buyers.arrive(BUYERS_A_KILL, every_s=0.01))
            await eventually(sent, partial(le, least), timeout_s=60)
            await asyncio.to_thread(own_kafka.kill)
            assert all(attempt.outcome == RESERVED for attempt in await rush)
            await asyncio.to_thread(own_kafka.start)
        assert not await cluster.reader.violations(sku, buyers.history)
        assert not buyers.history.codes, "a buyer was told of Kafka's troubles"
        assert (await cluster.reader.facts(sku)).sold == BUYERS_A_KILL * KILLS
