"""Redis is wrong by a few units while Kafka stands still: repaired once, and only downwards."""

from dataclasses import replace

from deploy.local import KafkaServer, Stores
from seckill.v1 import rollback_pb2, rollback_pb2_grpc
from tests.factories import sale_terms
from tests.faults.conftest import MakeBuyers, MakeLine
from tests.faults.line import CALL_S, Line
from tests.waiting import eventually

# Looks several times a second, at all that is older than the pipeline of a test.
EAGER = {
    "rollback_reconcile_interval_s": "0.2",
    "rollback_reconcile_age_min_s": "1",
    "rollback_reconcile_timeout_s": "2",
}
UNITS = 50


async def looks(line: Line, result: str) -> float:
    """How many comparisons ended like this."""
    return await line.metric("rollback", "seckill_reconcile_sales_total", result=result)


async def more_looks(line: Line, result: str) -> None:
    """Wait for three more of them."""
    wanted = await looks(line, result) + 3
    await eventually(lambda: looks(line, result), lambda seen: seen >= wanted)


async def test_drift_is_repaired_once_after_a_pause_of_kafka_and_upwards_only_when_told_to(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_kafka: KafkaServer
) -> None:
    """Three too many and Kafka frozen: no repair. Kafka thaws: one. Three too few: a word first."""
    async with make_line(replace(own_stores, kafka_bootstrap=own_kafka.url)) as line:
        await line.start("order", "inventory", "rollback", **EAGER)
        sku = await line.open_sale(sale_terms(units=UNITS))
        stock_key = f"seckill:stock:{{{sku}}}"

        async def stock() -> int:
            return int(await line.reader.redis.get(stock_key) or -1)

        async def repairs() -> float:
            return await line.metric("rollback", "seckill_reconcile_repairs_total")

        buyers = make_buyers(line, sku)
        await buyers.arrive(10)
        assert not await line.reader.violations(sku, buyers.history)
        own_kafka.pause()
        try:
            await buyers.arrive(5)
            await line.reader.redis.incrby(stock_key, 3)
            await more_looks(line, "skipped")
            assert (await stock(), await repairs()) == (UNITS - 15 + 3, 0)
        finally:
            own_kafka.resume()
        await eventually(stock, lambda units: units == UNITS - 15, timeout_s=60)
        assert not await line.reader.violations(sku, buyers.history)
        await more_looks(line, "compared")
        assert (await stock(), await repairs()) == (UNITS - 15, 1)

        await line.reader.redis.decrby(stock_key, 3)
        await eventually(
            lambda: line.metric("rollback", "seckill_reconcile_drift_units", direction="too_few"),
            lambda units: units == 3,
        )
        await more_looks(line, "compared")
        assert await stock() == UNITS - 15 - 3
        async with line.channel("rollback") as channel:
            request = rollback_pb2.ReconcileRequest(sku=sku, repair=True, repair_restock=True)
            answer = await rollback_pb2_grpc.RollbackServiceStub(channel).Reconcile(
                request, timeout=CALL_S
            )
        assert [finding.repaired for finding in answer.findings] == [True]
        assert not await line.reader.violations(sku, buyers.history)
        assert await stock() == UNITS - 15
