"""A wrong stock counter is repaired once: upwards only on request, never while Kafka is frozen."""

from dataclasses import replace

from devstack import KafkaServer, Stores
from seckill.v1 import rollback_pb2, rollback_pb2_grpc
from tests.kits.factories import sale_terms
from tests.kits.faults.cluster import CALL_S, Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.waiting import eventually

# Looks several times a second, at all that is older than the pipeline of a test.
EAGER = {
    "rollback_reconcile_interval_s": "0.2",
    "rollback_reconcile_age_min_s": "1",
    "rollback_reconcile_timeout_s": "2",
}
UNITS = 50


async def looks(cluster: Cluster, result: str) -> float:
    """Return how many comparisons ended with this result."""
    return await cluster.metric("rollback", "seckill_reconcile_sales_total", result=result)


async def more_looks(cluster: Cluster, result: str) -> None:
    """Wait until three more comparisons have ended with this result."""
    wanted = await looks(cluster, result) + 3
    await eventually(lambda: looks(cluster, result), lambda seen: seen >= wanted)


async def test_drift_is_repaired_once_after_a_pause_of_kafka_and_upwards_only_when_told_to(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """Units too many are taken away once Kafka has thawed; units too few wait for an operator."""
    async with make_cluster(replace(own_stores, kafka_bootstrap=own_kafka.url)) as cluster:
        await cluster.start("order", "inventory", "rollback", **EAGER)
        sku = await cluster.open_sale(sale_terms(units=UNITS))
        stock_key = f"seckill:stock:{{{sku}}}"

        async def stock() -> int:
            return int(await cluster.reader.redis.get(stock_key) or -1)

        async def repairs() -> float:
            return await cluster.metric("rollback", "seckill_reconcile_repairs_total")

        buyers = make_buyers(cluster, sku)
        await buyers.arrive(10)
        assert not await cluster.reader.violations(sku, buyers.history)
        own_kafka.pause()
        try:
            await buyers.arrive(5)
            await cluster.reader.redis.incrby(stock_key, 3)
            await more_looks(cluster, "skipped")
            assert (await stock(), await repairs()) == (UNITS - 15 + 3, 0)
        finally:
            own_kafka.resume()
        await eventually(stock, lambda units: units == UNITS - 15, timeout_s=60)
        assert not await cluster.reader.violations(sku, buyers.history)
        await more_looks(cluster, "compared")
        assert (await stock(), await repairs()) == (UNITS - 15, 1)

        await cluster.reader.redis.decrby(stock_key, 3)
        await eventually(
            lambda: cluster.metric(
                "rollback", "seckill_reconcile_drift_units", direction="too_few"
            ),
            lambda units: units == 3,
        )
        await more_looks(cluster, "compared")
        assert await stock() == UNITS - 15 - 3
        async with cluster.channel("rollback") as channel:
            request = rollback_pb2.ReconcileRequest(sku=sku, repair=True, repair_restock=True)
            answer = await rollback_pb2_grpc.RollbackServiceStub(channel).Reconcile(
                request, timeout=CALL_S
            )
        assert [finding.repaired for finding in answer.findings] == [True]
        assert not await cluster.reader.violations(sku, buyers.history)
        assert await stock() == UNITS - 15
