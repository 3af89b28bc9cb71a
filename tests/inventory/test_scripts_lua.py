"""reserve.lua, release.lua and load.lua on Valkey 9 and on Redis 6.2, the oldest supported."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from devstack import ValkeyServer
from inventory_svc.keys import (
    backlog_key,
    notices_channel,
    outbox_key,
    past_key,
    sale_key,
    stock_key,
    users_key,
)
from inventory_svc.stock.hold import format_hold
from inventory_svc.stock.loader import Staged
from seckill.errors import DependencyUnavailable, Overloaded, SaleNotLoaded
from seckill.v1 import inventory_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit, attempt

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
ALREADY_PURCHASED = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
NOT_STARTED = inventory_pb2.PURCHASE_OUTCOME_NOT_STARTED
ENDED = inventory_pb2.PURCHASE_OUTCOME_ENDED
PAUSED = inventory_pb2.PURCHASE_OUTCOME_PAUSED
LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED
SCRIPTS = [
    *(
        f"inventory_svc/lua/{name}.lua"
        for name in (
            *("bar", "kill_switch", "lend", "load", "release", "remove", "repair", "resend"),
            *("reserve", "settle", "sync", "take", "update_sale"),
        )
    ),
    "seckill/runtime/delay_claim.lua",
]
# Its keys are as many as its callers.
MANY_KEYED = "gateway/issue/take_tokens.lua"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def kit(server: ValkeyServer) -> AsyncIterator[StockKit]:
    """Stock on that server."""
    kit = StockKit(server.url)
    yield kit
    await kit.close()


async def set_state(kit: StockKit, sku: str, state: str) -> None:
    """What an operator does."""
    await kit.sales.update(sku, {"state": state}, timeout_s=TIMEOUT_S)


async def cancelled_after(steps: int, work: Coroutine[Any, Any, Any]) -> None:
    """Cancel `work` after so many turns of the event loop."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()


async def test_reservation_takes_units_and_is_remembered_and_queued(kit: StockKit) -> None:
    """Stock, hold and outbox entry change together, and all name the same order."""
    sku = await kit.load(sale_terms(units=10, limit=3))
    item = attempt(quantity=3)
    with bound_contextvars(request_id="call-0001"):
        ((outcome, order_no),) = await kit.reserve(sku, item)
    assert outcome == RESERVED
    assert await kit.left(sku) == 7
    hold = await kit.redis.hget(users_key(sku), item.user_id)
    assert hold == format_hold(order_no, quantity=3, request_id=item.request_id).encode()
    entries: Any = await kit.redis.xrange(outbox_key(sku))
    ((_, fields),) = entries
    head, line = fields[b"b"].decode().split("\n")
    assert line.split(" ") == [order_no, "3", item.request_id, item.user_id]
    epoch, reserve_ms, call_id = head.split(" ")
    assert call_id == "call-0001"
    seconds, _ = await kit.redis.time()
    assert epoch == "1"
    assert abs(int(reserve_ms) / 1000 - seconds) < 10


async def test_same_request_gets_the_same_answer(kit: StockKit) -> None:
    """A request sent again takes nothing and answers the same order, also after the sale."""
    sku = await kit.load()
    item = attempt()
    first = await kit.reserve(sku, item)
    assert await kit.reserve(sku, item) == first
    await set_state(kit, sku, "closed")
    assert await kit.reserve(sku, item) == first
    assert await kit.left(sku) == 9
    assert await kit.queued(sku) == 1


async def test_second_request_of_a_buyer_names_the_first_order(kit: StockKit) -> None:
    """A buyer with a live order gets ALREADY_PURCHASED and its number."""
    sku = await kit.load()
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    assert await kit.reserve(sku, attempt(item.user_id)) == [(ALREADY_PURCHASED, order_no)]


async def test_batch_is_decided_as_if_one_by_one(kit: StockKit) -> None:
    """Repetitions inside a batch see what came before them, and the stock ends where it must."""
    sku = await kit.load(sale_terms(units=2))
    first, other = attempt(), attempt()
    results = await kit.reserve(
        sku, first, first, attempt(first.user_id), other, attempt(), attempt(other.user_id)
    )
    order_no, other_no = results[0][1], results[3][1]
    assert results == [
        (RESERVED, order_no),
        (RESERVED, order_no),
        (ALREADY_PURCHASED, order_no),
        (RESERVED, other_no),
        (SOLD_OUT, ""),
        (ALREADY_PURCHASED, other_no),
    ]
    assert order_no != other_no
    assert (await kit.left(sku), await kit.queued(sku), await kit.held(sku)) == (0, 2, 2)


async def test_largest_batch_fits(kit: StockKit) -> None:
    """1,024 attempts are decided, and 1,024 orders released, by one run each."""
    sku = await kit.load(sale_terms(units=2000))
    items = [attempt() for _ in range(1024)]
    results = await kit.reserve(sku, *items)
    assert {outcome for outcome, _ in results} == {RESERVED}
    assert len({order_no for _, order_no in results}) == 1024
    orders = [(order_no, item.user_id) for item, (_, order_no) in zip(items, results, strict=True)]
    assert sum(await kit.release(sku, *orders)) == 1024
    assert await kit.left(sku) == 2000


async def test_more_than_is_left_is_sold_out_and_less_is_not(kit: StockKit) -> None:
    """A buyer who asks for fewer units than are left still gets them."""
    sku = await kit.load(sale_terms(units=3, limit=5))
    results = await kit.reserve(sku, attempt(quantity=4), attempt(quantity=3))
    assert [outcome for outcome, _ in results] == [SOLD_OUT, RESERVED]


async def test_more_than_the_limit_is_told_apart(kit: StockKit) -> None:
    """More units than the purchase limit is LIMIT_EXCEEDED, with a flag for the single call."""
    sku = await kit.load(sale_terms(limit=2))
    decisions = await kit.stock.reserve(sku, [attempt(quantity=3)], timeout_s=5)
    assert [result.outcome for result in decisions.results] == [LIMIT_EXCEEDED]
    assert decisions.any_over_limit


@pytest.mark.parametrize(
    ("starts_in_s", "ends_in_s", "outcome"), [(60, 120, NOT_STARTED), (-120, -60, ENDED)]
)
async def test_window_is_judged_by_the_clock_of_redis(
    kit: StockKit,
    starts_in_s: float,
    ends_in_s: float,
    outcome: inventory_pb2.PurchaseOutcome.ValueType,
) -> None:
    """Before the start and after the end nothing is sold."""
    sku = await kit.load(sale_terms(starts_in_s=starts_in_s, ends_in_s=ends_in_s))
    assert await kit.reserve(sku, attempt()) == [(outcome, "")]
    assert await kit.left(sku) == 10


async def test_paused_sale_sells_again_when_reopened(kit: StockKit) -> None:
    """PAUSED while it is paused, RESERVED after, ENDED once it is closed."""
    sku = await kit.load()
    await set_state(kit, sku, "paused")
    assert await kit.reserve(sku, attempt()) == [(PAUSED, "")]
    await set_state(kit, sku, "open")
    assert (await kit.reserve(sku, attempt()))[0][0] == RESERVED
    await set_state(kit, sku, "closed")
    assert await kit.reserve(sku, attempt()) == [(ENDED, "")]


async def test_release_gives_back_the_units_of_the_hold_once(kit: StockKit) -> None:
    """The second release, and one that names another order or buyer, give nothing."""
    sku = await kit.load(sale_terms(units=10, limit=4))
    item, other = attempt(quantity=4), attempt()
    (_, order_no), (_, other_no) = await kit.reserve(sku, item, other)
    assert await kit.release(sku, (order_no, other.user_id), (order_no, new_id("buyer"))) == [0, 0]
    assert await kit.release(sku, (order_no, item.user_id), (order_no, item.user_id)) == [4, 0]
    assert await kit.release(sku, (order_no, item.user_id)) == [0]
    assert await kit.left(sku) == 9
    assert await kit.release(sku, (other_no, other.user_id)) == [1]


async def test_cancelled_buyer_is_refused_but_the_old_request_is_not(kit: StockKit) -> None:
    """If buying again is not allowed: LIMIT_EXCEEDED; the first request keeps its answer."""
    sku = await kit.load(sale_terms(rebuy_allowed=False))
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    await kit.release(sku, (order_no, item.user_id))
    assert await kit.reserve(sku, attempt(item.user_id)) == [(LIMIT_EXCEEDED, "")]
    assert await kit.reserve(sku, item) == [(RESERVED, order_no)]
    assert await kit.left(sku) == 10


async def test_cancelled_buyer_may_buy_again_if_allowed(kit: StockKit) -> None:
    """The new order replaces the mark of the old one, whose late release gives nothing."""
    sku = await kit.load(sale_terms(rebuy_allowed=True))
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    await kit.release(sku, (order_no, item.user_id))
    ((outcome, new_no),) = await kit.reserve(sku, attempt(item.user_id))
    assert outcome == RESERVED
    assert new_no != order_no
    assert await kit.release(sku, (order_no, item.user_id)) == [0]
    assert await kit.left(sku) == 9


@pytest.mark.parametrize("lost", [sale_key, stock_key])
async def test_lost_key_closes_the_sale(kit: StockKit, lost: object) -> None:
    """Without its hash or its stock a sale is not loaded: nothing is sold, nothing is reseeded."""
    sku = await kit.load()
    await kit.redis.delete(lost(sku))  # type: ignore[operator]
    with pytest.raises(SaleNotLoaded):
        await kit.reserve(sku, attempt())
    with pytest.raises(SaleNotLoaded):
        await kit.release(sku, ("0" * 26, "buyer"))
    assert await kit.redis.exists(users_key(sku)) == 0
    assert not (await kit.sales.read([sku]))[0].loaded


@pytest.mark.parametrize("damaged", [sale_key, stock_key, users_key, outbox_key, backlog_key])
async def test_key_of_the_wrong_type_is_refused_before_the_first_write(
    kit: StockKit, damaged: object
) -> None:
    """A damaged key changes nothing in the others."""
    sku = await kit.load()
    key = damaged(sku)  # type: ignore[operator]
    await kit.redis.delete(key)
    await kit.redis.sadd(key, "wrong")
    keys = [sale_key(sku), stock_key(sku), users_key(sku), outbox_key(sku), backlog_key(sku)]
    before = [await kit.redis.dump(key) for key in keys]
    with pytest.raises(DependencyUnavailable):
        await kit.reserve(sku, attempt())
    assert [await kit.redis.dump(key) for key in keys] == before


async def test_full_backlog_is_refused(server: ValkeyServer) -> None:
    """At the cap a batch is refused as a whole; below it, it is decided."""
    kit = StockKit(server.url, backlog_max=2)
    sku = await kit.load()
    await kit.reserve(sku, attempt(), attempt())
    with pytest.raises(Overloaded):
        await kit.reserve(sku, attempt())
    assert await kit.left(sku) == 8
    await kit.close()


async def test_load_never_touches_a_loaded_sale(kit: StockKit) -> None:
    """Neither the same epoch, nor an older one, nor a later one; a lost one is loaded."""
    terms = sale_terms(units=10)
    sku = await kit.load(terms, epoch=2)
    item = attempt()
    await kit.reserve(sku, item)
    await kit.load(terms, epoch=2)
    await kit.load(terms, epoch=1)
    await kit.load(terms, epoch=3)
    assert (await kit.left(sku), await kit.held(sku)) == (9, 1)
    await kit.redis.delete(stock_key(sku))
    await kit.load(terms, epoch=3)
    assert (await kit.left(sku), await kit.held(sku), await kit.queued(sku)) == (10, 0, 1)
    assert (await kit.sales.read([sku]))[0].epoch == 3


async def test_load_brings_staged_holds(kit: StockKit) -> None:
    """Holds of a rebuilt sale answer their buyers; those of another epoch do not come in."""
    terms = sale_terms()
    holds = {
        f"buyer-{n}": format_hold(f"{n:026d}", quantity=1, request_id=f"request-{n}")
        for n in range(1_500)
    }
    staged = await kit.loader.stage(terms.sku, holds.items(), epoch=2)
    assert staged == Staged(buyers=1_500)
    later = [("buyer-0", format_hold("0", quantity=1, request_id=f"later-{n}")) for n in range(2)]
    staged += await kit.loader.stage(terms.sku, later, epoch=2)
    assert staged == Staged(buyers=1_500, with_past=1)
    await kit.loader.stage(
        terms.sku, [("stranger", format_hold("0", quantity=1, request_id="r"))], epoch=1
    )
    args: dict[str, str | int] = {
        "state": "open",
        "start_ms": 0,
        "end_ms": 2**42,
        "limit": 1,
        "rebuy": 0,
    }
    for lost in (Staged(buyers=1_501, with_past=1), Staged(buyers=1_500, with_past=2)):
        with pytest.raises(DependencyUnavailable):
            await kit.loader.load(terms.sku, args, epoch=2, units=5, staged=lost, timeout_s=5)
    assert await kit.loader.load(terms.sku, args, epoch=2, units=5, staged=staged, timeout_s=5)
    assert await kit.redis.ttl(users_key(terms.sku)) == -1
    assert await kit.redis.ttl(past_key(terms.sku)) == -1
    assert await kit.held(terms.sku) == 1_500
    results = await kit.reserve(terms.sku, attempt("buyer-1499"))
    assert results == [(ALREADY_PURCHASED, f"{1499:026d}")]


async def test_notices_tell_of_sold_out_and_of_restocked(kit: StockKit) -> None:
    """The last unit gone, and the first one back, are told; nothing in between is."""
    sku = await kit.load(sale_terms(units=2))
    pubsub: Any = kit.redis.pubsub()
    await pubsub.subscribe(notices_channel())
    first, last = attempt(), attempt()
    ((_, first_no),) = await kit.reserve(sku, first)
    ((_, last_no),) = await kit.reserve(sku, last)
    await kit.release(sku, (last_no, last.user_id))
    await kit.release(sku, (first_no, first.user_id))
    await kit.redis.publish(notices_channel(), "end")
    seen = []
    async with asyncio.timeout(30):
        async for message in pubsub.listen():
            if message["type"] == "message":
                seen.append(message["data"].decode())
                if seen[-1] == "end":
                    break
    await pubsub.aclose()
    assert seen == [sku, sku, "end"]


async def test_crowd_gets_exactly_the_stock(kit: StockKit) -> None:
    """10,000 buyers in concurrent batches, 100 units: 100 reservations, 100 orders."""
    sku = await kit.load(sale_terms(units=100))
    batches = [[attempt() for _ in range(50)] for _ in range(200)]
    results = await asyncio.gather(*(kit.reserve(sku, *batch) for batch in batches))
    outcomes = Counter(outcome for batch in results for outcome, _ in batch)
    assert outcomes == {RESERVED: 100, SOLD_OUT: 9_900}
    assert await kit.redis.get(stock_key(sku)) == b"0"
    assert (await kit.queued(sku), await kit.held(sku)) == (100, 100)


async def test_one_buyer_at_once_gets_one_order(kit: StockKit) -> None:
    """50 different requests of one buyer: one RESERVED, all name its order."""
    sku, buyer = await kit.load(), new_id("buyer")
    results = await asyncio.gather(*(kit.reserve(sku, attempt(buyer)) for _ in range(50)))
    outcomes = Counter(outcome for ((outcome, _),) in results)
    assert outcomes == {RESERVED: 1, ALREADY_PURCHASED: 49}
    assert len({order_no for ((_, order_no),) in results}) == 1
    assert await kit.left(sku) == 9


async def test_one_request_at_once_gets_one_answer(kit: StockKit) -> None:
    """One request sent 50 times at once: 50 equal answers, one unit gone."""
    sku, item = await kit.load(), attempt()
    results = await asyncio.gather(*(kit.reserve(sku, item) for _ in range(50)))
    assert len({tuple(result) for result in results}) == 1
    assert results[0][0][0] == RESERVED
    assert (await kit.left(sku), await kit.queued(sku)) == (9, 1)


async def test_forgotten_scripts_are_loaded_again(kit: StockKit) -> None:
    """SCRIPT FLUSH between calls goes unnoticed."""
    sku = await kit.load()
    for _ in range(3):
        item = attempt()
        ((outcome, order_no),) = await kit.reserve(sku, item)
        assert outcome == RESERVED
        await kit.redis.script_flush()
        assert await kit.release(sku, (order_no, item.user_id)) == [1]
        await kit.redis.script_flush()


async def test_full_redis_refuses_to_sell(kit: StockKit) -> None:
    """At maxmemory a reservation is refused, and units can be given back; afterwards it goes on."""
    sku = await kit.load()
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    await kit.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(DependencyUnavailable):
            await kit.reserve(sku, attempt())
        assert await kit.release(sku, (order_no, item.user_id)) == [1]
    finally:
        await kit.redis.config_set("maxmemory", "0")
    assert await kit.left(sku) == 10
    assert (await kit.reserve(sku, attempt()))[0][0] == RESERVED


async def test_cancelled_calls_never_mix_up_replies(kit: StockKit) -> None:
    """Calls cancelled at any point leave connections on which each reply is its own call's."""
    sku = await kit.load(sale_terms(units=5_000))
    for delay in range(60):
        batch = [attempt() for _ in range(20)]
        await cancelled_after(delay % 12, kit.reserve(sku, *batch))
        items = [attempt() for _ in range(3)]
        results = await kit.reserve(sku, *items)
        for item, (outcome, order_no) in zip(items, results, strict=True):
            hold = await kit.redis.hget(users_key(sku), item.user_id)
            assert outcome == RESERVED
            assert hold == format_hold(order_no, quantity=1, request_id=item.request_id).encode()
    assert await kit.left(sku) + await kit.held(sku) == 5_000


@pytest.mark.parametrize("path", [*SCRIPTS, MANY_KEYED])
def test_header_names_what_the_body_uses(path: str) -> None:
    """Each KEYS and ARGV index of the body is described by the header, and no other is."""
    text = (ROOT / path).read_text("utf-8")
    lines = text.splitlines()
    length = next(n for n, line in enumerate(lines) if not line.startswith("--"))
    header, body = "\n".join(lines[:length]), "\n".join(lines[length:])
    code = re.sub(r"--.*", "", body)
    described = set(re.findall(r"^-- ((?:KEYS|ARGV)\[\d+)\]", header, re.MULTILINE))
    used = set(re.findall(r"((?:KEYS|ARGV)\[\d+)\]", code))
    assert described == used
    groups = re.findall(r"^-- ARGV\[(\d+)\.\.\.\]", header, re.MULTILINE)
    firsts = re.findall(r"local FIRST\b[^=]*= (\d+)", code)
    assert groups == firsts
    assert "Reply:" in header


@pytest.mark.parametrize("path", SCRIPTS)
def test_keys_are_named_before_anything_else(path: str) -> None:
    """The first line of code names KEYS, the second ARGV; neither index appears later."""
    text = (ROOT / path).read_text("utf-8")
    code = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert code[0].startswith("local ")
    assert "KEYS[1]" in code[0]
    assert "ARGV[1]" in code[1]
    assert not re.search(r"KEYS\[|ARGV\[\d", "\n".join(code[2:]))
