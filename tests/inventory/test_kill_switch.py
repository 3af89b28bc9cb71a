"""The kill switch in Redis, and how those who watch sales hear of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from inventory_svc.keys import kill_switch_key
from inventory_svc.sales.gauges import SaleGauges
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.watch import SalesWatch
from inventory_svc.stock.scripts import Confirmation
from seckill.errors import OutcomeUnknown
from seckill.runtime.clock import SystemClock
from seckill.runtime.process import Process
from seckill.v1 import inventory_pb2
from tests.kits.inventory import StockKit

ENABLED_S = 1_700_000_000.0
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
        gauges=SaleGauges(sales_max=0),
    )
    async with AsyncExitStack() as stack:
        await Process(stack, service="inventory").spawn("watch", watch.run())
        yield watch


async def told(
    stream: AsyncIterator[inventory_pb2.WatchSalesResponse],
) -> inventory_pb2.KillSwitch:
    """Return the next message about the switch."""
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await anext(stream)
            if message.HasField("kill_switch"):
                return message.kill_switch


async def test_it_stays_on_with_its_first_reason_until_it_is_disabled(kit: StockKit) -> None:
    """Enabling it again changes nothing, disabling it twice neither; no process keeps it."""
    switch = KillSwitch(kit.redis)
    assert not (await switch.read()).on
    enabled = await switch.enable(reason="wrong price", now_s=ENABLED_S, timeout_s=WAIT_S)
    assert (enabled.on, enabled.reason) == (True, "wrong price")
    assert enabled.enable_time.ToSeconds() == ENABLED_S
    assert await switch.enable(reason="again", now_s=ENABLED_S + 1, timeout_s=WAIT_S) == enabled
    assert await KillSwitch(kit.redis).read() == enabled
    for _ in range(2):
        assert await switch.disable() == inventory_pb2.KillSwitch(on=False)
    assert not (await switch.read()).on


async def test_any_text_in_its_key_is_on(kit: StockKit) -> None:
    """Set by hand, in an emergency: no format is asked for."""
    await kit.redis.set(kill_switch_key(), "1")
    assert (await KillSwitch(kit.redis).read()).on


async def test_watchers_hear_of_it_by_notice_and_newcomers_at_once(kit: StockKit) -> None:
    """All is read once an hour here; another process enables and disables it."""
    async with watching(kit, interval_s=3_600) as watch:
        stream = aiter(watch.stream())
        assert not (await told(stream)).on
        enabled = await KillSwitch(kit.redis).enable(reason="", now_s=ENABLED_S, timeout_s=WAIT_S)
        assert await told(stream) == enabled
        assert await watch.halted()
        assert await told(aiter(watch.stream())) == enabled
        await KillSwitch(kit.redis).disable()
        assert not (await told(stream)).on
        assert not await watch.halted()


async def test_a_lost_notice_is_made_up_for(kit: StockKit) -> None:
    """The key changes without a notice: the next look at everything sees it."""
    async with watching(kit, interval_s=0.05) as watch:
        stream = aiter(watch.stream())
        assert not (await told(stream)).on
        await kit.redis.set(kill_switch_key(), "1")
        assert (await told(stream)).on
        await kit.redis.delete(kill_switch_key())
        assert not (await told(stream)).on
        # The end of that look: redis-py swallows a cancellation that meets a reply.
        await anext(stream)


async def test_before_anything_was_heard_it_is_asked_for(kit: StockKit) -> None:
    """A process that has just started does not sell until its watch has started."""
    await KillSwitch(kit.redis).enable(reason="", now_s=ENABLED_S, timeout_s=WAIT_S)
    async with watching(kit, interval_s=3_600) as watch:
        assert await watch.halted()


async def test_without_its_replicas_it_is_on_but_its_outcome_unknown(kit: StockKit) -> None:
    """Replicas must confirm and do not: UNAVAILABLE to the operator, in force all the same."""
    switch = KillSwitch(kit.redis, confirm=Confirmation(replicas=2, timeout_ms=10))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await switch.enable(reason="", now_s=ENABLED_S, timeout_s=0.5)
    assert (await switch.read()).on
    await switch.disable()
    assert not (await switch.read()).on
