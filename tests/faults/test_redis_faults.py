"""Redis loses replies, freezes, dies, forgets: what was promised is kept, nothing is oversold."""

import asyncio
import shutil
from collections.abc import Sized
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import Stores, ValkeyServer
from seckill.v1 import errors_pb2, inventory_pb2
from tests.factories import new_id, sale_terms
from tests.faults.conftest import MakeBuyers, MakeLine
from tests.faults.history import End
from tests.faults.line import Line
from tests.faults.proxy import FaultProxy
from tests.waiting import eventually

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT


async def test_a_lost_reply_is_answered_when_asked_again(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, redis_proxy: FaultProxy
) -> None:
    """The script ran, its reply is held: unknown first, then the same order; one unit is gone."""
    database = own_stores.redis_url.rpartition("/")[2]
    through_proxy = f"redis://127.0.0.1:{redis_proxy.port}/{database}"
    async with make_line(replace(own_stores, redis_url=through_proxy)) as line:
        await line.start("order", "inventory", redis_timeout_s="0.5")
        sku = await line.open_sale(sale_terms(units=5))
        buyers = make_buyers(line, sku)
        user, request = new_id("buyer"), new_id("request")
        # The first script of the process is loaded before it is run.
        await buyers.press()
        redis_proxy.replies.clear()
        lost = await buyers.press(user, request_id=request)
        assert lost.end is End.UNKNOWN
        assert lost.reason == "OUTCOME_UNKNOWN"
        redis_proxy.reset()
        redis_proxy.heal()
        told = await buyers.insist(user, request_id=request)
        assert told.outcome == RESERVED
        assert not await line.reader.violations(sku, buyers.history)
        facts = await line.reader.facts(sku)
    assert facts.remaining == 3
    assert facts.holds[user].order_no == told.order_no


async def test_a_thousand_cancelled_calls_leave_each_reply_with_its_request(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """Callers who leave at any moment: every later answer names the caller's own order."""
    await line.start("order", "inventory")
    sku = await line.open_sale(sale_terms(units=5_000))
    buyers = make_buyers(line, sku)
    for turn in range(20):
        leaving = [asyncio.create_task(buyers.press()) for _ in range(50)]
        for _ in range(turn):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        staying = await buyers.arrive(5)
        assert all(attempt.outcome == RESERVED for attempt in staying)
    holds = (await line.reader.facts(sku)).holds
    told = [attempt for attempt in buyers.history.attempts if attempt.reserved]
    assert all(holds[attempt.user_id].order_no == attempt.order_no for attempt in told)
    assert not await line.reader.violations(sku, buyers.history)


async def test_what_was_acknowledged_survives_sigkill_of_redis(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Killed in the middle of a rush and started again: each promise has its order."""
    stores = replace(own_stores, redis_url=own_valkey.url)
    async with make_line(stores) as line:
        await line.reader.redis.config_set("appendfsync", "always")
        await line.start("order", "inventory", redis_timeout_s="0.5")
        sku = await line.open_sale(sale_terms(units=60))
        buyers = make_buyers(line, sku)
        rush = asyncio.create_task(buyers.arrive(40, every_s=0.01))
        await eventually(lambda: count_of(buyers.history.told), lambda count: count >= 10)
        await asyncio.to_thread(own_valkey.kill)
        while_away = asyncio.create_task(buyers.arrive(40))
        await eventually(lambda: count_of(buyers.history.codes))
        await asyncio.to_thread(own_valkey.start)
        await asyncio.gather(rush, while_away)
        assert not await line.reader.violations(sku, buyers.history)
    assert len(buyers.history.told) == 60


async def count_of(told: Sized) -> int:
    """How many there are by now, for `eventually`."""
    return len(told)


def _append_only_file(server: ValkeyServer) -> Path:
    (path,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return path


async def test_a_cut_tail_of_the_append_only_file_never_oversells(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Redis forgets ten sold units and sells them again: Postgres rejects them, buyers can know."""
    async with make_line(replace(own_stores, redis_url=own_valkey.url)) as line:
        await line.reader.redis.config_set("appendfsync", "always")
        await line.start("order", "inventory", "rollback", redis_timeout_s="0.5")
        sku = await line.open_sale(sale_terms(units=20))
        buyers = make_buyers(line, sku)
        await buyers.arrive(10)
        assert not await line.reader.violations(sku, buyers.history)
        size_bytes = _append_only_file(own_valkey).stat().st_size
        second = await buyers.arrive(10)
        assert not await line.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_valkey.kill)
        with _append_only_file(own_valkey).open("r+b") as file:
            file.truncate(size_bytes)
        await asyncio.to_thread(own_valkey.start)
        third = await buyers.arrive(10)
        assert all(attempt.outcome == RESERVED for attempt in third)
        gone = {attempt.order_no for attempt in second}
        # Only Redis is wrong, until the sale is rebuilt: it offers what Postgres knows as sold.
        await eventually(
            lambda: line.reader.look(sku, buyers.history, forgotten=gone),
            lambda found: found == ["C: 10 units too many"],
        )
        facts = await line.reader.facts(sku)
    states = {row.order_no: row.status for row in facts.orders}
    assert all(states[attempt.order_no] == "rejected" for attempt in third)
    assert facts.sold == facts.total == 20


async def test_a_redis_that_comes_back_empty_sells_nothing(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """SALE_NOT_LOADED for everybody, and creating the sale again does not bring its stock back."""
    async with make_line(replace(own_stores, redis_url=own_valkey.url)) as line:
        await line.start("order", "inventory", redis_timeout_s="0.5")
        terms = sale_terms(units=20)
        sku = await line.open_sale(terms)
        buyers = make_buyers(line, sku)
        await buyers.arrive(5)
        assert not await line.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_valkey.kill)
        shutil.rmtree(own_valkey.directory / "appendonlydir")
        await asyncio.to_thread(own_valkey.start)

        async def reason() -> str | None:
            return (await buyers.press()).reason

        seen = await eventually(
            reason, lambda found: found not in {"DEPENDENCY_UNAVAILABLE", "OUTCOME_UNKNOWN"}
        )
        assert seen in _not_loaded()
        with pytest.raises(Exception, match="not loaded"):
            await line.open_sale(terms)
        assert (await buyers.press()).reason in _not_loaded()
        assert await line.reader.redis.keys("seckill:stock:*") == []
        facts = await line.reader.facts(sku)
    assert facts.sold == 5


def _not_loaded() -> set[str]:
    names = (errors_pb2.ERROR_REASON_SALE_NOT_LOADED, errors_pb2.ERROR_REASON_SALE_NOT_FOUND)
    return {errors_pb2.ErrorReason.Name(name).removeprefix("ERROR_REASON_") for name in names}


async def test_script_flush_during_a_rush_goes_unnoticed(
    line: Line, make_buyers: MakeBuyers
) -> None:
    """Scripts are forgotten again and again while buyers press: nobody sees an error."""
    await line.start("order", "inventory")
    sku = await line.open_sale(sale_terms(units=100))
    buyers = make_buyers(line, sku)
    rush = asyncio.create_task(buyers.arrive(150, every_s=0.01))
    flushes = 0
    while not rush.done():
        await line.reader.redis.script_flush()
        flushes += 1
        await asyncio.sleep(0.02)
    assert flushes > 3
    assert not buyers.history.codes
    assert not await line.reader.violations(sku, buyers.history)


async def test_a_frozen_redis_is_unknown_and_what_it_does_late_becomes_orders(
    make_line: MakeLine, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Frozen for ten timeouts: errors within the deadline, then each late effect has its row."""
    async with make_line(replace(own_stores, redis_url=own_valkey.url)) as line:
        await line.start("order", "inventory", redis_timeout_s="0.5", inventory_waiting_max="40")
        sku = await line.open_sale(sale_terms(units=200))
        buyers = make_buyers(line, sku)
        await buyers.arrive(10)
        own_valkey.pause()
        frozen = [asyncio.create_task(buyers.press()) for _ in range(100)]
        # They leave for good: nobody asks again with their request ids.
        ended = await asyncio.wait_for(asyncio.gather(*frozen), 30)
        assert {attempt.end for attempt in ended} == {End.UNKNOWN, End.FAILED}
        # At once, and not when their turn did not come.
        assert "too many calls wait for redis" in {attempt.details for attempt in ended}
        await asyncio.sleep(2)
        own_valkey.resume()
        await buyers.arrive(10)
        assert not await line.reader.violations(sku, buyers.history)
        facts = await line.reader.facts(sku)
    late = {attempt.user_id for attempt in ended} & set(facts.holds)
    assert late, "Redis did nothing late"
    assert len(facts.orders) == 20 + len(late)
