"""delay_claim.lua on Valkey 9 and on Redis 6.2, the oldest supported."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from devstack import Redis62Server, ValkeyServer
from seckill.runtime.delay import DelaySet
from tests.kits.factories import new_id
from tests.kits.waiting import eventually


@pytest.fixture(scope="module", params=[ValkeyServer, Redis62Server], ids=["valkey9", "redis62"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyServer]:
    """A server of each kind, for this module alone."""
    with request.param(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def delay(server: ValkeyServer) -> AsyncIterator[DelaySet]:
    """A delay set of the test's own."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        yield DelaySet(client, key=new_id("delay"))


async def test_due_orders_are_claimed_earliest_first_and_once(delay: DelaySet) -> None:
    """Claims at the same moment share them out; what is not due stays."""
    now_s = time.time()
    await delay.add({f"order-{n:03}": now_s - 1_000 + n for n in range(100)})
    await delay.add({"later": now_s + 1_000})
    first = await delay.claim(limit=10, lease_s=60)
    assert first.order_nos == [f"order-{n:03}" for n in range(10)]
    claims = await asyncio.gather(*(delay.claim(limit=20, lease_s=60) for _ in range(8)))
    taken = [number for claim in (first, *claims) for number in claim.order_nos]
    assert sorted(taken) == [f"order-{n:03}" for n in range(100)]
    assert (await delay.claim(limit=20, lease_s=60)).order_nos == []
    assert await delay.counts(now_s=now_s) == (0, 101)


async def test_what_was_claimed_is_due_again_after_the_lease(delay: DelaySet) -> None:
    """Not before, by the clock of Redis; what was removed meanwhile does not come back."""
    await delay.add({"settled": 1.0, "left": 2.0})
    claim = await delay.claim(limit=10, lease_s=0.3)
    assert claim.order_nos == ["settled", "left"]
    await delay.remove(["settled"])
    again = await eventually(
        lambda: delay.claim(limit=10, lease_s=60), lambda found: bool(found.order_nos)
    )
    assert again.order_nos == ["left"]
    assert again.now_s >= claim.now_s + 0.3
