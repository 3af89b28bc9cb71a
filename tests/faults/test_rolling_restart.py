"""A rollout: each replica of each service restarted in turn under load, and what callers notice."""

import asyncio
import contextlib
import time

import grpc
import pytest
import structlog

from seckill.client import SeckillClient
from tests.kits.factories import sale_terms
from tests.kits.faults.buyers import Buyers
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.rolling import (
    SERVICES,
    RetryingBuyers,
    replicas,
    retrying_channel,
    start_pairs,
    target,
    targets,
)
from tests.kits.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
log = structlog.get_logger()
UNLIMITED = {"gateway_rate_user": "0", "gateway_rate_ip": "0", "gateway_rate_issue": "0"}
WATCHERS = 4
# For what a busy machine does late.
PATIENCE_S = 90.0
# A watch is open again this soon, also if both gateways have just been away for its caller.
GAP_MAX_S = 20.0
# A replica that stands still is out of the balancing by then.
LEFT_OUT_S = 25.0
UNSURE_MAX = 20


async def test_a_rollout_of_every_replica_fails_no_call_that_may_be_repeated(
    cluster: Cluster,
) -> None:
    """Two of each service: callers with gRPC's own retries, with our client, and with watches."""
    await start_pairs(cluster, **UNLIMITED)
    sku = await cluster.open_sale(sale_terms(units=100_000))
    async with (
        retrying_channel(target(cluster, "gateway")) as channel,
        SeckillClient(target(cluster, "gateway")) as client,
    ):
        load = RetryingBuyers(cluster, channel, sku)
        ours = Buyers(client, sku, identity_of=cluster.issuer.token)
        tasks = [asyncio.create_task(load.keep_buying(every_s=0.2)) for _ in range(4)]
        stops_s: dict[str, float] = {}
        rush = asyncio.create_task(ours.arrive(10_000, every_s=0.2))
        try:
            await load.tally.until_answered(30)
            watched = list(load.tally.reserved.items())[:WATCHERS]

            async def are_orders() -> bool:
                found = {order.order_no for order in (await cluster.reader.facts(sku)).orders}
                return {order_no for order_no, _ in watched} <= found

            await eventually(are_orders, timeout_s=PATIENCE_S)
            tasks += [
                asyncio.create_task(load.keep_watching(order_no, buyer))
                for order_no, buyer in watched
            ]
            for service in SERVICES:
                for replica in replicas(service):
                    begun_s = time.monotonic()
                    assert await cluster.terminate(replica) == 0
                    stops_s[replica] = time.monotonic() - begun_s
                    await load.tally.until_answered(20)
                    await cluster.start(replica, **targets(cluster), **UNLIMITED)
                    await load.tally.until_answered(20)
            buyers = list(load.tally.reserved.items())
        finally:
            rush.cancel()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(rush, *tasks, return_exceptions=True)
    tally = load.tally
    log.info("rollout", tally=tally, attempts=len(ours.history.attempts), stops_s=stops_s)
    assert not tally.failed
    assert set(tally.ends) <= {("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE", True)}
    assert max(tally.gaps_s, default=0.0) < GAP_MAX_S
    assert ours.history.codes <= {grpc.StatusCode.UNAVAILABLE}
    assert not any(attempt.failure for attempt in ours.history.attempts)
    promised = {order_no for order_no, _ in buyers} | set(ours.history.promised)

    async def missing() -> set[str]:
        facts = await cluster.reader.facts(sku)
        assert len({order.user_id for order in facts.orders}) == len(facts.orders)
        return promised - {order.order_no for order in facts.orders}

    await eventually(missing, lambda found: not found, timeout_s=PATIENCE_S)


async def test_a_frozen_inventory_costs_its_buyers_a_pause_and_no_answer(
    cluster: Cluster,
) -> None:
    """One of two stands still, its connections open: it is left out, and tries are repeated."""
    await start_pairs(cluster, **UNLIMITED)
    sku = await cluster.open_sale(sale_terms(units=100_000))
    async with SeckillClient(target(cluster, "gateway")) as client:
        buyers = Buyers(client, sku, identity_of=cluster.issuer.token)
        history = buyers.history
        rush = asyncio.create_task(buyers.arrive(10_000, every_s=0.1))
        try:
            await history.changed.until(lambda: history.answered >= 50, timeout_s=PATIENCE_S)
            frozen_s = time.monotonic()
            cluster.freeze("inventory/b")
            try:
                more = history.answered + 200
                await history.changed.until(lambda: history.answered >= more, timeout_s=PATIENCE_S)
            finally:
                cluster.thaw("inventory/b")
        finally:
            rush.cancel()
            await asyncio.gather(rush, return_exceptions=True)
    unsure = [attempt for attempt in history.attempts if attempt.errors]
    waits_s = [attempt.end_s - attempt.start_s for attempt in history.attempts if attempt.end_s]
    log.info("frozen", unsure=len(unsure), longest_s=max(waits_s))
    assert not any(attempt.failure for attempt in history.attempts)
    # Seen by a buyer only if both tries met the frozen one, before it was left out.
    assert all((attempt.end_s or 0.0) < frozen_s + LEFT_OUT_S for attempt in unsure)
    assert len(unsure) <= UNSURE_MAX
