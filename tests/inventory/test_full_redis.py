"""Operators can stop a sale, and units can be returned, while Redis takes no other writes."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devstack import Redis62Server, ValkeyServer
from inventory_svc.keys import kill_switch_key, outbox_key, past_key, sale_key, stock_key, users_key
from inventory_svc.sales.kill_switch import KillSwitch
from inventory_svc.stock.scripts import Confirmation, ScriptRefused
from seckill.errors import DependencyUnavailable, InvalidField, OutcomeUnknown, SaleStateConflict
from seckill.v1 import inventory_pb2, sale_pb2
from tests.kits.factories import moment, sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit, attempt
from tests.kits.waiting import eventually

PAUSED = inventory_pb2.PURCHASE_OUTCOME_PAUSED
ENDED = inventory_pb2.PURCHASE_OUTCOME_ENDED
STATES = {
    "open": sale_pb2.SALE_STATE_OPEN,
    "paused": sale_pb2.SALE_STATE_PAUSED,
    "closed": sale_pb2.SALE_STATE_CLOSED,
}
NOW_S = 1_700_000_000.0
# Longer than a socket of the client waits for a reply.
FROZEN_S = 1.5


@pytest.fixture(params=[ValkeyServer, Redis62Server], ids=["valkey9", "redis62"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that the test may fill, freeze and damage."""
    with request.param(tmp_path / "redis") as running:
        yield running


@pytest.fixture
async def kit(own_server: ValkeyServer) -> AsyncIterator[StockKit]:
    """Stock on that server."""
    kit = StockKit(own_server.url)
    yield kit
    await kit.close()


@asynccontextmanager
async def full(kit: StockKit) -> AsyncIterator[None]:
    """Redis has no memory left; nothing is evicted."""
    await kit.redis.config_set("maxmemory", "1")
    try:
        yield
    finally:
        await kit.redis.config_set("maxmemory", "0")


async def set_state(kit: StockKit, sku: str, state: str) -> sale_pb2.SaleState.ValueType:
    """What an operator does, and the state that they are told."""
    sale = await kit.sales.update(sku, {"state": state}, timeout_s=TIMEOUT_S)
    record = await kit.sales.record(sku)
    assert record is not None
    assert record.state == sale.state
    return sale.state


async def test_a_full_redis_takes_the_kill_switch(kit: StockKit) -> None:
    """On with its reason, once more, and off again."""
    switch = KillSwitch(kit.redis)
    async with full(kit):
        enabled = await switch.enable(reason="full", now_s=NOW_S, timeout_s=TIMEOUT_S)
        assert (enabled.on, enabled.reason) == (True, "full")
        again = await switch.enable(reason="again", now_s=NOW_S + 1, timeout_s=TIMEOUT_S)
        assert again == enabled == await switch.read()
        assert not (await switch.disable()).on
        assert not (await switch.read()).on


async def test_a_full_redis_pauses_opens_and_closes_sales(kit: StockKit) -> None:
    """Each is in force at once, and is one revision."""
    sku = await kit.load()
    async with full(kit):
        for state in ("paused", "open", "closed", "closed"):
            assert await set_state(kit, sku, state) == STATES[state]
        assert await kit.redis.hget(sale_key(sku), "revision") == b"3"
    assert await kit.reserve(sku, attempt()) == [(ENDED, "")]
    with pytest.raises(SaleStateConflict):
        await set_state(kit, sku, "open")


async def test_a_full_redis_takes_units_back(kit: StockKit) -> None:
    """Of cancelled and of rejected orders; what it cannot do, sell, it refuses."""
    sku = await kit.load()
    items = [attempt() for _ in range(2)]
    (_, first), (_, second) = await kit.reserve(sku, *items)
    async with full(kit):
        with pytest.raises(DependencyUnavailable):
            await kit.reserve(sku, attempt())
        assert await kit.release(sku, (first, items[0].user_id)) == [1]
        assert await kit.release(sku, (second, items[1].user_id), rejected=True) == [1]
    assert await kit.left(sku) == 10


async def test_no_key_of_a_sale_expires(kit: StockKit) -> None:
    """Scripts that may run beyond the memory limit persist their first key on Redis 6.2."""
    sku = await kit.load(sale_terms(rebuy_allowed=True))
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    await kit.release(sku, (order_no, item.user_id))
    await kit.reserve(sku, attempt(item.user_id))
    await KillSwitch(kit.redis).enable(reason="", now_s=NOW_S, timeout_s=TIMEOUT_S)
    keys = [key(sku) for key in (sale_key, stock_key, users_key, outbox_key, past_key)]
    assert [await kit.redis.ttl(key) for key in (*keys, kill_switch_key())] == [-1] * 6


async def test_a_redis_that_cannot_save_says_what_is_in_force(
    kit: StockKit, own_server: ValkeyServer
) -> None:
    """Nothing is sold, nothing is stored, and the operator is told so instead of "unknown"."""
    sku = await kit.load()
    await kit.redis.config_set("save", "3600 1")
    shutil.rmtree(own_server.directory)
    await kit.redis.bgsave()

    async def save_has_failed() -> bool:
        return bool((await kit.redis.info("persistence"))["rdb_last_bgsave_status"] == "err")

    await eventually(save_has_failed)
    with pytest.raises(ScriptRefused):
        await kit.reserve(sku, attempt())
    switch = KillSwitch(kit.redis)
    with pytest.raises(ScriptRefused, match="the kill switch is not on"):
        await switch.enable(reason="", now_s=NOW_S, timeout_s=TIMEOUT_S)
    assert not (await switch.read()).on
    with pytest.raises(ScriptRefused):
        await set_state(kit, sku, "paused")
    assert (await kit.sales.read([sku]))[0].state == STATES["open"]
    await kit.redis.config_set("save", "")


async def test_operators_wait_for_a_slow_redis(kit: StockKit) -> None:
    """A pause of Redis that fails a purchase is waited for; beyond that the outcome is unknown."""
    sku = await kit.load()
    for command in (
        KillSwitch(kit.redis).enable(reason="slow", now_s=NOW_S, timeout_s=TIMEOUT_S),
        set_state(kit, sku, "paused"),
    ):
        await kit.redis.client_pause(int(FROZEN_S * 1000))
        with pytest.raises(OutcomeUnknown):
            await kit.stock.reserve(sku, [attempt()], timeout_s=0.5)
        await command
    assert (await KillSwitch(kit.redis).read()).reason == "slow"
    assert await kit.reserve(sku, attempt()) == [(PAUSED, "")]
    await kit.redis.client_pause(int(FROZEN_S * 1000))
    with pytest.raises(OutcomeUnknown):
        await KillSwitch(kit.redis).enable(reason="", now_s=NOW_S, timeout_s=0.2)


async def test_without_replicas_a_full_redis_is_unknown_and_on(kit: StockKit) -> None:
    """The confirmation needs no further write, so it is asked for at maxmemory too."""
    switch = KillSwitch(kit.redis, confirm=Confirmation(replicas=1, timeout_ms=10))
    async with full(kit):
        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
            await switch.enable(reason="", now_s=NOW_S, timeout_s=0.5)
        assert (await switch.read()).on


async def test_window_is_compared_with_what_is_kept(kit: StockKit) -> None:
    """An end that is not after the start that stands is refused, by the name of what was given."""
    sku = await kit.load(sale_terms(starts_in_s=60, ends_in_s=120))
    same_ms = moment(60).ToMilliseconds()
    refused: tuple[tuple[dict[str, int], str], ...] = (
        ({"start_ms": moment(180).ToMilliseconds()}, "start_time"),
        ({"end_ms": moment(30).ToMilliseconds()}, "end_time"),
        ({"start_ms": same_ms, "end_ms": same_ms}, "end_time"),
    )
    for change, field in refused:
        with pytest.raises(InvalidField, match=field):
            await kit.sales.update(sku, change, timeout_s=TIMEOUT_S)
    early_ms = moment(-60).ToMilliseconds()
    for _ in range(2):  # the first answer may have been lost
        sale = await kit.sales.update(sku, {"start_ms": early_ms}, timeout_s=TIMEOUT_S)
    record = await kit.sales.record(sku)
    assert record is not None
    assert record.start_time == sale.terms.start_time
    assert sale.terms.start_time.ToMilliseconds() == early_ms
    assert record.revision == 1
