"""Each reservation becomes one row although consumers die, Postgres stops or Redis misleads."""

import asyncio
import signal
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from devstack import PostgresServer, Stores
from seckill.client import Outcome
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.cluster import CALL_S, Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.waiting import eventually

RESERVED = Outcome.RESERVED


@pytest.mark.slow
async def test_a_consumer_killed_before_each_of_its_steps_writes_and_delays_all(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """A batch whose consumer died after the commit, or after the delay set, is completed."""
    await cluster.start("order", "inventory")
    sku = await cluster.open_sale(sale_terms(units=30))
    await cluster.terminate("order")
    buyers = make_buyers(cluster, sku)
    await buyers.arrive(20)
    await cluster.launch("order", failpoints="consumer.after_commit:1:kill")
    assert await cluster.wait_exit("order") == -signal.SIGKILL
    written = await cluster.reader.facts(sku)
    assert written.orders
    assert not written.delayed
    assert written.lag == 20
    # Ended by a defect, it leaves the consumer group; after SIGKILL Kafka waits for 10 s.
    await cluster.launch("order", failpoints="consumer.after_delay:1:raise")
    assert await cluster.wait_exit("order") == 1
    delayed = await cluster.reader.facts(sku)
    assert delayed.delayed >= {row.order_no for row in written.orders}
    assert delayed.lag == 20
    await cluster.start("order")
    assert not await cluster.reader.violations(sku, buyers.history)


async def test_sessions_ended_again_and_again_write_each_order_once(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Every session of the service is terminated, again and again, during a rush."""
    await cluster.start("order", "inventory")
    sku = await cluster.open_sale(sale_terms(units=150))
    buyers = make_buyers(cluster, sku)

    async def end_sessions() -> int:
        return int(
            await cluster.reader.sql.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'order_svc'"
            )
        )

    for _ in range(10):
        rush = asyncio.create_task(buyers.arrive(20, every_s=0.01))
        # At least one, at whatever it was doing.
        await eventually(end_sessions)
        await rush
    assert not await cluster.reader.violations(sku, buyers.history)
    assert (await cluster.reader.facts(sku)).sold == 150


async def test_a_postmaster_killed_in_a_rush_loses_and_doubles_nothing(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    own_stores: Stores,
    own_postgres: PostgresServer,
) -> None:
    """Postgres is killed twice while batches are committed; all reservations become orders."""
    async with make_cluster(replace(own_stores, postgres_dsn=own_postgres.url)) as cluster:
        await cluster.start("order", "inventory")
        sku = await cluster.open_sale(sale_terms(units=300))
        buyers = make_buyers(cluster, sku)

        for wave in range(2):
            rush = asyncio.create_task(buyers.arrive(100, every_s=0.01))
            await buyers.history.until_promised(100 * wave + 30)
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.to_thread(own_postgres.start)
            await rush
        assert not await cluster.reader.violations(sku, buyers.history)
        assert (await cluster.reader.facts(sku)).sold == 200


async def _members(bootstrap: str, group: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        (answer,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    ((_, _, state, _, _, members, *_),) = answer.groups
    return [state, *(member[0] for member in members)]


@pytest.mark.slow
async def test_a_locked_table_is_waited_for_without_a_rebalance(
    cluster: Cluster, make_buyers: MakeBuyers, own_stores: Stores
) -> None:
    """The consumer stays in its group while the table is locked for longer than 10 s."""
    await cluster.start("order", "inventory", postgres_timeout_s="1")
    sku = await cluster.open_sale(sale_terms(units=50))
    buyers = make_buyers(cluster, sku)
    await buyers.arrive(10)
    assert not await cluster.reader.violations(sku, buyers.history)
    before = await _members(own_stores.kafka_bootstrap, cluster.group)
    async with cluster.reader.sql.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await buyers.arrive(20)
        await asyncio.sleep(12)
    assert not await cluster.reader.violations(sku, buyers.history)
    assert await _members(own_stores.kafka_bootstrap, cluster.group) == before
    assert len(before) == 2
    assert await cluster.metric("order", "seckill_consumer_restarts_total") == 0


async def test_one_buyer_under_two_numbers_keeps_the_first_and_the_second_comes_back(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """A buyer to whom Redis sold twice keeps the first order; the second one is rejected."""
    await cluster.start("order", "inventory", "rollback")
    sku = await cluster.open_sale(sale_terms(units=10))
    buyers = make_buyers(cluster, sku)
    user = new_id("buyer")
    first = await buyers.buy(user)
    assert not await cluster.reader.violations(sku, buyers.history)
    await cluster.reader.redis.hdel(f"seckill:users:{{{sku}}}", user)
    second = await buyers.buy(user)
    assert second.outcome == RESERVED
    assert second.order_no != first.order_no
    forgotten = {first.order_no}
    assert not await cluster.reader.violations(sku, buyers.history, forgotten=forgotten)
    facts = await cluster.reader.facts(sku)
    assert {row.order_no: row.status for row in facts.orders} == {
        first.order_no: "pending",
        second.order_no: "rejected",
    }
    assert facts.remaining == 9


async def test_stock_raised_behind_our_back_is_capped_and_the_excess_is_told(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Orders beyond the stock are rejected, and their buyers learn it by asking."""
    await cluster.start("order", "inventory", "rollback")
    sku = await cluster.open_sale(sale_terms(units=30))
    await cluster.reader.redis.incrby(f"seckill:stock:{{{sku}}}", 50)
    buyers = make_buyers(cluster, sku)
    told = await buyers.arrive(80)
    assert all(attempt.outcome == RESERVED for attempt in told)
    await eventually(
        lambda: cluster.reader.look(sku, buyers.history),
        # Postgres is right; Redis is wrong by what was added, until it is reconciled.
        lambda found: found == ["C: 50 units too many"],
    )
    assert (await cluster.reader.facts(sku)).sold == 30
    async with cluster.channel("order") as channel:
        answer = await order_pb2_grpc.OrderServiceStub(channel).BatchGetOrders(
            order_pb2.BatchGetOrdersRequest(order_nos=[attempt.order_no for attempt in told]),
            timeout=CALL_S,
        )
    states = [order_pb2.Order.FromString(text).state for text in answer.orders]
    assert states.count(order_pb2.ORDER_STATE_PENDING) == 30
    assert states.count(order_pb2.ORDER_STATE_REJECTED) == 50
