"""What sales cost while nobody buys: the commands that Redis runs, as Redis counts them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from devstack import Stores, ValkeyServer
from inventory_svc.keys import outbox_key, single_outbox_key, stock_key
from inventory_svc.outbox.relay import Relay
from inventory_svc.outbox.rounds import Rounds
from inventory_svc.sales.gauges import SaleGauges
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.sales.watch import READS_MAX, SalesWatch
from seckill.runtime.clock import SystemClock
from seckill.runtime.process import Process
from seckill.v1 import inventory_pb2
from tests.kits.factories import sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit
from tests.kits.relay import RelayKit, numbers
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

SALES = 200
SINGLE = "01JD0Z0000AAAAAAAAAAAAAAAA 1 1 1700000000000 request buyer"
# As the settings have them by default.
INTERVAL_S, IDLE_INTERVAL_S = 0.1, 30.0


class HandClock(SystemClock):
    """Monotonic time as the test says."""

    time_s = 0.0

    def monotonic_s(self) -> float:
        return self.time_s


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Redis whose commands are those of one test."""
    with ValkeyServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def kit(own_redis: ValkeyServer, stores: Stores, topics: Topics) -> AsyncIterator[RelayKit]:
    """Stock and relays on it."""
    kit = RelayKit(own_redis.url, stores.kafka_bootstrap, topics)
    await kit.redis.flushall()
    yield kit
    await kit.close()


async def commands(kit: StockKit) -> int:
    """How many commands Redis has run since its statistics were reset."""
    stats: Any = await kit.redis.info("commandstats")
    return sum(figures["calls"] for figures in stats.values())


async def load(kit: StockKit, count: int, *, closed: bool) -> list[str]:
    """Sales that nobody buys from."""
    skus = [await kit.load(sale_terms(units=10)) for _ in range(count)]
    for sku in skus if closed else ():
        await kit.sales.update(sku, {"state": "closed"}, timeout_s=TIMEOUT_S)
    return skus


async def pass_rounds(relay: Relay, clock: HandClock, count: int) -> None:
    """So many rounds, an interval apart."""
    for _ in range(count):
        await relay._pass()
        clock.time_s += INTERVAL_S


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
async def test_the_relay_leaves_idle_sales_alone(kit: RelayKit, *, closed: bool) -> None:
    """In ten seconds, 200 sales cost less than a look at each of them does in four rounds."""
    await load(kit, SALES, closed=closed)
    clock = HandClock()
    relay = kit.relay(clock=clock)
    await pass_rounds(relay, clock, 600)
    await kit.redis.config_resetstat()
    await pass_rounds(relay, clock, 100)
    assert await commands(kit) < 4 * SALES


async def test_a_sale_costs_nothing_more_once_it_is_drained(kit: RelayKit) -> None:
    """All of 200 sales are bought from once; then they are as idle as before."""
    skus = await load(kit, SALES, closed=False)
    clock = HandClock()
    relay = kit.relay(clock=clock)
    wanted: set[str] = set()
    for sku in skus:
        wanted |= await kit.buy(sku, 2)
        relay.wake(sku)
    await pass_rounds(relay, clock, 600)
    assert numbers(await kit.arrived(2 * SALES)) == wanted
    await kit.redis.config_resetstat()
    await pass_rounds(relay, clock, 100)
    assert await commands(kit) < 4 * SALES


@pytest.mark.parametrize("outbox", [outbox_key, single_outbox_key])
async def test_late_entries_of_a_closed_sale_are_found(kit: RelayKit, outbox: Any) -> None:
    """What a replica has left behind that died is sent within the idle interval."""
    sku, *_ = await load(kit, 3, closed=True)
    clock = HandClock()
    relay = kit.relay(clock=clock)
    await pass_rounds(relay, clock, 1_000)
    await kit.redis.xadd(outbox(sku), {"o": SINGLE})
    await pass_rounds(relay, clock, int(IDLE_INTERVAL_S / INTERVAL_S) + 1)
    assert len(await kit.arrived(1)) == 1
    assert await kit.queued(sku) == 0


async def test_a_sale_that_is_new_to_the_relay_is_looked_at(kit: RelayKit) -> None:
    """Whichever replica has created it, and has died with entries in its outbox."""
    clock = HandClock()
    relay = kit.relay(clock=clock)
    await pass_rounds(relay, clock, 2)
    (sku,) = await load(kit, 1, closed=False)
    await kit.buy(sku, 2)
    await pass_rounds(relay, clock, 20)
    assert await kit.queued(sku) == 0


@asynccontextmanager
async def watching(
    kit: StockKit,
) -> AsyncIterator[AsyncIterator[inventory_pb2.WatchSalesResponse]]:
    """What a watch tells that reads some sales every 50 ms."""
    watch = SalesWatch(
        kit.redis,
        kit.sales,
        KillSwitch(kit.redis),
        clock=SystemClock(),
        interval_s=0.05,
        first_timeout_s=5.0,
        streams_max=8,
        gauges=SaleGauges(sales_max=0),
    )
    async with AsyncExitStack() as stack:
        await Process(stack, service="inventory").spawn("watch", watch.run())
        yield watch.stream()


async def test_the_watch_reads_few_sales_in_an_interval(kit: RelayKit) -> None:
    """Of 200 closed sales READS_MAX are read at once, and all of them in turn."""
    skus = await load(kit, SALES, closed=True)
    async with watching(kit) as stream:
        first = await anext(stream)
        assert {sale.terms.sku for sale in first.sales} == set(skus)
        await kit.redis.config_resetstat()

        async def commandstats() -> Any:
            return await kit.redis.info("commandstats")

        # Asked once in an interval.
        stats = await eventually(
            commandstats, lambda stats: stats.get("cmdstat_scard", {"calls": 0})["calls"] >= 20
        )
        intervals = stats["cmdstat_scard"]["calls"]
        assert stats["cmdstat_hgetall"]["calls"] <= (intervals + 1) * READS_MAX
        # Lost without a notice: told when its turn comes.
        for sku in skus:
            await kit.redis.delete(stock_key(sku))
        lost: set[str] = set()
        while len(lost) < SALES:
            lost |= {sale.terms.sku for sale in (await anext(stream)).sales if not sale.loaded}


async def test_a_window_that_closes_is_told_without_a_notice(
    kit: RelayKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sale that has just ended is read at once: who holds its units is told."""
    monkeypatch.setattr("inventory_svc.sales.watch.READS_MAX", 0)
    sku = await kit.load(sale_terms(units=10, ends_in_s=0.5))
    await kit.buy(sku, 1)
    async with watching(kit) as stream, asyncio.timeout(20):
        found = False
        while not found:
            message = await anext(stream)
            found = any(one.sku == sku and one.user_ids for one in message.holders)


def test_rounds_double_their_waits_up_to_the_longest() -> None:
    """An outbox that is found empty again and again is looked at less and less often."""
    rounds = Rounds(wait_min_s=1.0, wait_max_s=5.0)
    rounds.know(["a"])
    looks: list[int] = []
    for now_s in range(30):
        for outbox in rounds.due(now_s=now_s, most=10):
            looks.append(now_s)
            rounds.rest(outbox, now_s=now_s)
    assert looks == [0, 1, 3, 7, 12, 17, 22, 27]


def test_rounds_begin_again_once_there_was_something() -> None:
    """After entries an outbox that rests is due after the shortest wait."""
    rounds = Rounds(wait_min_s=1.0, wait_max_s=8.0)
    rounds.know(["a", "b"])
    for outbox in rounds.due(now_s=0.0, most=10):
        rounds.rest(outbox, now_s=0.0)
    rounds.activate("a")
    assert rounds.active == ["a"]
    assert rounds.due(now_s=1.0, most=10) == ["b"]
    rounds.rest("a", now_s=1.0)
    assert (rounds.active, rounds.due(now_s=2.0, most=10)) == ([], ["b", "a"])


def test_rounds_look_at_a_few_at_a_time_and_forget_none() -> None:
    """What has not been looked at is due until it has been; what is no more is never due."""
    rounds = Rounds(wait_min_s=1.0, wait_max_s=8.0)
    rounds.know(str(n) for n in range(10))
    seen = rounds.due(now_s=0.0, most=4)
    assert rounds.due(now_s=0.0, most=4) == seen
    for outbox in seen:
        rounds.rest(outbox, now_s=0.0)
    rounds.know(str(n) for n in range(8))
    rest = rounds.due(now_s=0.0, most=10)
    assert sorted((*seen, *rest)) == [str(n) for n in range(8)]
    rounds.hurry([seen[0]])
    assert seen[0] in rounds.due(now_s=0.5, most=10)
