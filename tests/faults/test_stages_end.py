"""SIGTERM to each stage under load: nothing accepted is lost, callers are told to come back."""

import asyncio
from functools import partial
from operator import le

import grpc
import pytest

from tests.factories import sale_terms
from tests.faults.buyers import Buyers, GatewayDoor
from tests.faults.line import Line
from tests.waiting import eventually

STAGES = ("rollback", "order", "inventory", "gateway")
UNLIMITED = {"gateway_rate_user": "0"}


@pytest.mark.slow
async def test_each_stage_restarted_under_load_costs_callers_unavailable_at_most(
    line: Line,
) -> None:
    """One after the other ends in good order, and the next one takes over where it stopped."""
    # Without the bucket that slows down who repeats himself ten times a second.
    await line.start(*STAGES, **UNLIMITED)
    sku = await line.open_sale(sale_terms(units=300))
    async with line.channel("gateway") as channel:
        buyers = Buyers(GatewayDoor(channel, line), sku)

        async def served() -> int:
            return sum(attempt.outcome != 0 for attempt in buyers.history.attempts)

        for stage in STAGES:
            least = await served() + 10
            rush = asyncio.create_task(buyers.arrive(100, every_s=0.02))
            await eventually(served, partial(le, least))
            assert await line.terminate(stage) == 0
            await line.start(stage, **UNLIMITED)
            assert all(attempt.outcome for attempt in await rush)
    assert buyers.history.codes <= {grpc.StatusCode.UNAVAILABLE}
    assert not await line.reader.violations(sku, buyers.history)
    assert (await line.reader.facts(sku)).sold == 300
