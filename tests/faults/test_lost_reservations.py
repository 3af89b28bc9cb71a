"""What Kafka or an outbox has lost comes back without an operator."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from devstack import KafkaServer, Stores
from seckill.client import Outcome
from tests.kits.factories import sale_terms
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.kafka_logs import cut_logs, recreate_topic
from tests.kits.keys import until_drained

# Looks several times a second, at all that is older than the pipeline of a test.
EAGER = {
    "rollback_reconcile_interval_s": "0.5",
    "rollback_reconcile_age_min_s": "1",
    "rollback_reconcile_timeout_s": "5",
}
SERVICES = ("inventory", "order", "rollback")
BEFORE, LOST, AFTER = 10, 40, 10
PARTITIONS = 4
Damage = Callable[[Cluster], Awaitable[None]]


async def resent(cluster: Cluster) -> float:
    """How many reservations were sent again."""
    return await cluster.metric("rollback", "seckill_reconcile_repairs_total", kind="order_missing")


async def lose_and_wait(cluster: Cluster, make_buyers: MakeBuyers, damage: Damage) -> None:
    """Sell while no consumer runs, do the damage, and wait until every buyer has an order."""
    await cluster.start(*SERVICES, **EAGER)
    sku = await cluster.open_sale(sale_terms(units=BEFORE + LOST + AFTER))
    buyers = make_buyers(cluster, sku)
    await buyers.arrive(BEFORE)
    assert not await cluster.reader.violations(sku, buyers.history)
    await cluster.terminate("order")
    told = await buyers.arrive(LOST)
    assert all(attempt.outcome is Outcome.RESERVED for attempt in told)
    await until_drained(cluster.reader.redis, sku)
    await damage(cluster)
    await cluster.start("order")
    await buyers.arrive(AFTER)
    assert not await cluster.reader.violations(sku, buyers.history)
    assert len(buyers.history.promised) == BEFORE + LOST + AFTER
    assert await resent(cluster) > 0


@pytest.mark.parametrize("share", [0.2, 0.7])
async def test_reservations_of_a_log_that_was_cut_come_back_by_themselves(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_kafka: KafkaServer,
    share: float,
) -> None:
    """The broker is killed, and its partitions' logs lack their ends."""

    async def damage(cluster: Cluster) -> None:
        await asyncio.to_thread(own_kafka.kill)
        assert cut_logs(own_kafka.directory, cluster.topics.orders, share=share)
        await asyncio.to_thread(own_kafka.start)

    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await lose_and_wait(cluster, make_buyers, damage)


async def test_reservations_of_a_topic_that_was_recreated_come_back_by_themselves(
    cluster: Cluster, make_buyers: MakeBuyers, own_stores: Stores
) -> None:
    """All that was in it is gone."""

    async def damage(cluster: Cluster) -> None:
        await recreate_topic(
            own_stores.kafka_bootstrap, cluster.topics.orders, partitions=PARTITIONS
        )

    await lose_and_wait(cluster, make_buyers, damage)


async def test_reservations_of_an_outbox_trimmed_before_the_relay_come_back_by_themselves(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_kafka: KafkaServer,
) -> None:
    """Kafka stands still, so that the relay cannot send what it has read, and reads no more."""
    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await cluster.start(*SERVICES, **EAGER)
        sku = await cluster.open_sale(sale_terms(units=LOST))
        buyers = make_buyers(cluster, sku)
        own_kafka.pause()
        try:
            await buyers.arrive(LOST)
            trimmed = await cluster.reader.redis.xtrim(f"seckill:outbox:{{{sku}}}", maxlen=0)
        finally:
            own_kafka.resume()
        assert trimmed > 0
        assert not await cluster.reader.violations(sku, buyers.history)
        assert await resent(cluster) > 0
