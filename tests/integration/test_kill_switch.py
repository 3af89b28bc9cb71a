"""The kill switch in Redis, and how those who watch sales hear of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from inventory_svc.keys import KILL_SWITCH
from inventory_svc.kill_switch import KillSwitch
from inventory_svc.scripts import Confirmation
from inventory_svc.watch import SalesWatch
from seckill.clock import SystemClock
from seckill.errors import OutcomeUnknown
from seckill.process import Process
from seckill.v1 import inventory_pb2
from tests.inventory_kit import StockKit

THROWN_S = 1_700_000_000.0
WAIT_S = 20.0


@pytest.fixture
async def kit(redis_url: str) -> AsyncIterator[StockKit]:
    """A Redis of the test's own."""
    kit = StockKit(redis_url)
    yield kit
    await kit.close()


@asynccontextmanager
async def watching(kit: StockKit, *, interval_s: float) -> AsyncIterator[SalesWatch]:
    """A watch that reads everything this often, and between that what it has notice of."""
    watch = SalesWatch(
        kit.redis,
        kit.sales,
        KillSwitch(kit.redis),
        clock=SystemClock(),
        interval_s=interval_s,
        first_timeout_s=WAIT_S,
        streams_max=8,
    )
    async with AsyncExitStack() as stack:
        await Process(stack).spawn("watch", watch.run())
        yield watch


async def told(
    stream: AsyncIterator[inventory_pb2.WatchSalesResponse],
) -> inventory_pb2.KillSwitch:
    """The next word about the switch."""
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await anext(stream)
            if message.HasField("kill_switch"):
                return message.kill_switch


async def test_it_stays_on_with_its_first_reason_until_it_is_lifted(kit: StockKit) -> None:
    """Throwing it again changes nothing; lifting it twice neither; it is not in any process."""
    switch = KillSwitch(kit.redis)
    assert not (await switch.read()).on
    thrown = await switch.throw(reason="wrong price", now_s=THROWN_S)
    assert (thrown.on, thrown.reason) == (True, "wrong price")
    assert thrown.thrown_time.ToSeconds() == THROWN_S
    assert await switch.throw(reason="again", now_s=THROWN_S + 1) == thrown
    assert await KillSwitch(kit.redis).read() == thrown
    for _ in range(2):
        assert await switch.lift() == inventory_pb2.KillSwitch(on=False)
    assert not (await switch.read()).on


async def test_whatever_stands_in_its_key_is_on(kit: StockKit) -> None:
    """Set by hand, in an emergency: no format is asked for."""
    await kit.redis.set(KILL_SWITCH, "1")
    assert (await KillSwitch(kit.redis).read()).on


async def test_watchers_hear_of_it_by_notice_and_newcomers_at_once(kit: StockKit) -> None:
    """All is read once an hour here; somebody else throws and lifts it."""
    async with watching(kit, interval_s=3_600) as watch:
        stream = aiter(watch.stream())
        assert not (await told(stream)).on
        thrown = await KillSwitch(kit.redis).throw(reason="", now_s=THROWN_S)
        assert await told(stream) == thrown
        assert await watch.halted()
        assert await told(aiter(watch.stream())) == thrown
        await KillSwitch(kit.redis).lift()
        assert not (await told(stream)).on
        assert not await watch.halted()


async def test_a_notice_that_is_lost_is_made_up_for(kit: StockKit) -> None:
    """The key changes and nobody says so: the next look at everything sees it."""
    async with watching(kit, interval_s=0.05) as watch:
        stream = aiter(watch.stream())
        assert not (await told(stream)).on
        await kit.redis.set(KILL_SWITCH, "1")
        assert (await told(stream)).on
        await kit.redis.delete(KILL_SWITCH)
        assert not (await told(stream)).on
        # The end of that look: redis-py swallows a cancellation that meets a reply.
        await anext(stream)


async def test_before_anything_was_heard_it_is_asked_for(kit: StockKit) -> None:
    """A process that has just started does not sell until its watch has begun."""
    await KillSwitch(kit.redis).throw(reason="", now_s=THROWN_S)
    async with watching(kit, interval_s=3_600) as watch:
        assert await watch.halted()


async def test_without_its_replicas_it_is_thrown_but_not_promised(kit: StockKit) -> None:
    """Replicas must confirm and do not: UNAVAILABLE to the operator, in force all the same."""
    switch = KillSwitch(kit.redis, confirm=Confirmation(replicas=1, timeout_ms=10))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await switch.throw(reason="", now_s=THROWN_S)
    assert (await switch.read()).on
    await switch.lift()
    assert not (await switch.read()).on
