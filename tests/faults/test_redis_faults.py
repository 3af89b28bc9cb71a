"""Promises are kept and nothing is oversold although Redis freezes, dies, or forgets."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

from devstack import Stores, ValkeyServer
from inventory_svc.keys import stock_key
from seckill.client import Outcome
from seckill.v1 import errors_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.faults.cluster import Cluster
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.faults.history import is_refused, is_reserved, reason_of
from tests.kits.faults.proxy import FaultProxy
from tests.kits.waiting import eventually

RESERVED = Outcome.RESERVED


async def test_a_lost_reply_is_answered_when_asked_again(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, redis_proxy: FaultProxy
) -> None:
    """An attempt whose reply was lost is unknown; the same request then gets its order."""
    database = own_stores.redis_url.rpartition("/")[2]
    through_proxy = f"redis://127.0.0.1:{redis_proxy.port}/{database}"
    async with make_cluster(replace(own_stores, redis_url=through_proxy)) as cluster:
        await cluster.start("order", "inventory", redis_timeout_s="0.5")
        sku = await cluster.open_sale(sale_terms(units=5))
        buyers = make_buyers(cluster, sku)
        user, request = new_id("buyer"), new_id("request")
        # The first script of the process is loaded before it is run.
        await buyers.attempt()
        redis_proxy.replies.clear()
        lost = await buyers.attempt(user, request_id=request)
        assert lost.unknown
        assert reason_of(lost) == "OUTCOME_UNKNOWN"
        redis_proxy.reset()
        redis_proxy.heal()
        told = await buyers.buy(user, request_id=request)
        assert told.outcome == RESERVED
        assert not await cluster.reader.violations(sku, buyers.history)
        facts = await cluster.reader.facts(sku)
    assert facts.remaining == 3
    assert facts.holds[user].order_no == told.order_no


async def test_a_thousand_cancelled_calls_leave_each_reply_with_its_request(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Every answer names its caller's own order although others left at any moment."""
    await cluster.start("order", "inventory")
    sku = await cluster.open_sale(sale_terms(units=5_000))
    buyers = make_buyers(cluster, sku)
    for turn in range(20):
        leaving = [asyncio.create_task(buyers.attempt()) for _ in range(50)]
        for _ in range(turn):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        staying = await buyers.arrive(5)
        assert all(attempt.outcome == RESERVED for attempt in staying)
    holds = (await cluster.reader.facts(sku)).holds
    told = [attempt for attempt in buyers.history.attempts if is_reserved(attempt)]
    assert all(holds[attempt.user_id].order_no == attempt.order_no for attempt in told)
    assert not await cluster.reader.violations(sku, buyers.history)


async def test_what_was_acknowledged_survives_sigkill_of_redis(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Each promise has its order although Redis was killed in the middle of a rush."""
    stores = replace(own_stores, redis_url=own_valkey.url)
    async with make_cluster(stores) as cluster:
        await cluster.reader.redis.config_set("appendfsync", "always")
        await cluster.start("order", "inventory", redis_timeout_s="0.5")
        sku = await cluster.open_sale(sale_terms(units=60))
        buyers = make_buyers(cluster, sku)
        rush = asyncio.create_task(buyers.arrive(40, every_s=0.01))
        await buyers.history.until_promised(10)
        await asyncio.to_thread(own_valkey.kill)
        while_away = asyncio.create_task(buyers.arrive(40))
        await buyers.history.until_refused()
        await asyncio.to_thread(own_valkey.start)
        await asyncio.gather(rush, while_away)
        assert not await cluster.reader.violations(sku, buyers.history)
    assert len(buyers.history.promised) == 60


def _append_only_file(server: ValkeyServer) -> Path:
    (path,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return path


async def test_a_cut_tail_of_the_append_only_file_never_oversells(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Postgres rejects the orders of units that Redis forgot and sold again."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        await cluster.reader.redis.config_set("appendfsync", "always")
        await cluster.start("order", "inventory", "rollback", redis_timeout_s="0.5")
        sku = await cluster.open_sale(sale_terms(units=20))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(10)
        assert not await cluster.reader.violations(sku, buyers.history)
        size_bytes = _append_only_file(own_valkey).stat().st_size
        second = await buyers.arrive(10)
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_valkey.kill)
        with _append_only_file(own_valkey).open("r+b") as file:
            file.truncate(size_bytes)
        await asyncio.to_thread(own_valkey.start)
        third = await buyers.arrive(10)
        assert all(attempt.outcome == RESERVED for attempt in third)
        gone = {attempt.order_no for attempt in second}
        # Only Redis is wrong, until the sale is rebuilt: it offers what Postgres knows as sold.
        await eventually(
            lambda: cluster.reader.look(sku, buyers.history, forgotten=gone),
            lambda found: found == ["C: 10 units too many"],
        )
        facts = await cluster.reader.facts(sku)
    states = {row.order_no: row.status for row in facts.orders}
    assert all(states[attempt.order_no] == "rejected" for attempt in third)
    assert facts.sold == facts.total == 20


async def test_a_redis_that_comes_back_empty_sells_nothing(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """All attempts get SALE_NOT_LOADED; creating the sale again loads what is really left."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        await cluster.start("order", "inventory", redis_timeout_s="0.5")
        terms = sale_terms(units=20)
        sku = await cluster.open_sale(terms)
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(5)
        assert not await cluster.reader.violations(sku, buyers.history)
        await asyncio.to_thread(own_valkey.kill)
        shutil.rmtree(own_valkey.directory / "appendonlydir")
        await asyncio.to_thread(own_valkey.start)

        async def reason() -> str:
            return reason_of(await buyers.attempt())

        seen = await eventually(
            reason, lambda found: found not in {"DEPENDENCY_UNAVAILABLE", "OUTCOME_UNKNOWN"}
        )
        assert seen in _not_loaded()
        assert await cluster.reader.redis.keys("seckill:stock:*") == []
        await cluster.open_sale(terms)
        facts = await cluster.reader.facts(sku)
        assert (facts.sold, int(await cluster.reader.redis.get(stock_key(sku)) or -1)) == (5, 15)


def _not_loaded() -> set[str]:
    names = (errors_pb2.ERROR_REASON_SALE_NOT_LOADED, errors_pb2.ERROR_REASON_SALE_NOT_FOUND)
    return {errors_pb2.ErrorReason.Name(name).removeprefix("ERROR_REASON_") for name in names}


async def test_script_flush_during_a_rush_goes_unnoticed(
    cluster: Cluster, make_buyers: MakeBuyers
) -> None:
    """Buyers see no error although Redis forgets its scripts again and again."""
    await cluster.start("order", "inventory")
    sku = await cluster.open_sale(sale_terms(units=100))
    buyers = make_buyers(cluster, sku)
    rush = asyncio.create_task(buyers.arrive(150, every_s=0.01))
    flushes = 0
    while not rush.done():
        await cluster.reader.redis.script_flush()
        flushes += 1
        await asyncio.sleep(0.02)
    assert flushes > 3
    assert not buyers.history.codes
    assert not await cluster.reader.violations(sku, buyers.history)


async def test_a_frozen_redis_is_unknown_and_what_it_does_late_becomes_orders(
    make_cluster: MakeCluster, make_buyers: MakeBuyers, own_stores: Stores, own_valkey: ValkeyServer
) -> None:
    """Attempts end within their deadline, and what a frozen Redis does late becomes orders."""
    async with make_cluster(replace(own_stores, redis_url=own_valkey.url)) as cluster:
        await cluster.start("order", "inventory", redis_timeout_s="0.5", inventory_waiting_max="40")
        sku = await cluster.open_sale(sale_terms(units=200))
        buyers = make_buyers(cluster, sku)
        await buyers.arrive(10)
        own_valkey.pause()
        frozen = [asyncio.create_task(buyers.attempt()) for _ in range(100)]
        # They leave for good: none of their requests is repeated.
        ended = await asyncio.wait_for(asyncio.gather(*frozen), 30)
        assert {is_refused(attempt) for attempt in ended} == {True, False}
        assert all(attempt.outcome is None for attempt in ended)
        # At once, and not when their turn did not come.
        messages = {attempt.failure.message for attempt in ended if attempt.failure is not None}
        assert "too many calls wait for redis" in messages
        await asyncio.sleep(2)
        own_valkey.resume()
        await buyers.arrive(10)
        assert not await cluster.reader.violations(sku, buyers.history)
        facts = await cluster.reader.facts(sku)
    late = {attempt.user_id for attempt in ended} & set(facts.holds)
    assert late, "Redis did nothing late"
    assert len(facts.orders) == 20 + len(late)
