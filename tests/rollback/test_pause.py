"""How long rollback_svc waits between rounds."""

import asyncio
import itertools
import random
from contextlib import suppress

import grpc
import pytest
import redis.asyncio
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from rollback_svc.clients import InventoryClient, OrderClient
from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import Sweeper
from seckill.runtime.clock import SystemClock
from seckill.runtime.delay import DelaySet
from seckill.validation import BATCH_MAX
from tests.kits.rollback import free_address
from tests.kits.waiting import eventually

UNUSED = SecretStr("redis://unused")


async def test_pauses_grow_with_each_failed_round_up_to_the_bound() -> None:
    """Stores and services that are away are asked less and less, but never given up."""
    nowhere = free_address()
    settings = RollbackSettings(
        redis_url=UNUSED, rollback_interval_s=0.01, rollback_backoff_max_s=0.04
    )
    async with (
        grpc.aio.insecure_channel(nowhere) as channel,
        redis.asyncio.Redis.from_url(f"redis://{nowhere}", retry=None) as client,
    ):
        sweeper = Sweeper(
            settings=settings,
            delay=DelaySet(client),
            orders=OrderClient(channel, timeout_s=1.0, lease_s=1.0),
            inventory=InventoryClient(channel, timeout_s=1.0),
            clock=SystemClock(),
            rng=random.Random(1),
        )

        async def failed() -> int:
            return sum(entry["event"] == "step failed" for entry in logs)

        with capture_logs() as logs:
            task = asyncio.create_task(sweeper.run())
            await eventually(failed, lambda count: count >= 8)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    pauses = [entry["retry_after_s"] for entry in logs if entry["event"] == "step failed"]
    assert 0.01 <= pauses[0] <= 0.02
    # Each at least doubles but for the jitter, until the bound.
    assert all(later >= min(0.04, earlier) for earlier, later in itertools.pairwise(pauses))
    assert max(pauses) == pauses[-1] == 0.04
    assert sweeper.rounds >= len(pauses)


def test_a_page_beyond_what_the_contract_allows_is_refused() -> None:
    """CancelExpired takes at most 1,024 orders, so a larger page could never work."""
    with pytest.raises(ValidationError, match="rollback_page_size"):
        RollbackSettings(redis_url=UNUSED, rollback_page_size=BATCH_MAX + 1)
