"""SIGTERM to each service under load loses no order; callers are told to try later."""

import asyncio

import grpc
import pytest

from tests.kits.factories import sale_terms
from tests.kits.faults.buyers import at_gateway
from tests.kits.faults.cluster import Cluster

SERVICES = ("rollback", "order", "inventory", "gateway")
UNLIMITED = {"gateway_rate_user": "0", "gateway_rate_issue": "0"}


@pytest.mark.slow
async def test_each_service_restarted_under_load_costs_callers_unavailable_at_most(
    cluster: Cluster,
) -> None:
    """Each service exits with 0 under load, and its successor goes on where it stopped."""
    # Without the bucket that would slow down buyers who repeat an attempt ten times a second.
    await cluster.start(*SERVICES, **UNLIMITED)
    sku = await cluster.open_sale(sale_terms(units=300))
    async with at_gateway(cluster, sku) as buyers:
        for service in SERVICES:
            least = buyers.history.answered + 10
            rush = asyncio.create_task(buyers.arrive(100, every_s=0.02))
            await buyers.history.until_answered(least)
            assert await cluster.terminate(service) == 0
            await cluster.start(service, **UNLIMITED)
            assert all(attempt.outcome for attempt in await rush)
    assert buyers.history.codes <= {grpc.StatusCode.UNAVAILABLE}
    assert not await cluster.reader.violations(sku, buyers.history)
    assert (await cluster.reader.facts(sku)).sold == 300
