"""What a request id is good for: the same answer for as long as the contract says, and no other."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from devstack import ValkeyServer
from inventory_svc.keys import past_key, users_key
from inventory_svc.sales.fields import to_fields
from inventory_svc.stock.hold import PAST_MAX, format_hold, parse_hold
from inventory_svc.stock.loader import NOTHING_STAGED
from seckill.v1 import inventory_pb2
from seckill.v1.inventory_pb2 import ReserveItem
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import TIMEOUT_S, StockKit, attempt

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
ALREADY_PURCHASED = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED
OTHER_QUANTITY = inventory_pb2.PURCHASE_OUTCOME_OTHER_QUANTITY
OTHER_SKU = inventory_pb2.PURCHASE_OUTCOME_OTHER_SKU
# Whatever a contract allows, and what stands beside it in the text of a hold.
REQUEST_IDS = ["1", "2", "-", "01", "%d+", "A", "a", "r" * 64]


@pytest.fixture
async def kit(server: ValkeyServer) -> AsyncIterator[StockKit]:
    """Stock on that server."""
    kit = StockKit(server.url)
    yield kit
    await kit.close()


async def bought_and_released(kit: StockKit, sku: str, item: ReserveItem) -> str:
    """Buy, give it back, and return the order's number."""
    ((outcome, order_no),) = await kit.reserve(sku, item)
    assert outcome == RESERVED
    assert await kit.release(sku, (order_no, item.user_id)) == [item.quantity]
    return order_no


async def test_another_quantity_under_the_same_id_is_refused(kit: StockKit) -> None:
    """Live or released, in one batch or in two; nothing is taken, and the first answer stands."""
    sku = await kit.load(sale_terms(units=10, limit=3))
    item = attempt()
    more = attempt(item.user_id, request_id=item.request_id, quantity=3)
    (_, order_no), *others = await kit.reserve(sku, item, more, item)
    assert others == [(OTHER_QUANTITY, ""), (RESERVED, order_no)]
    assert await kit.reserve(sku, more) == [(OTHER_QUANTITY, "")]
    await kit.release(sku, (order_no, item.user_id))
    assert await kit.reserve(sku, more, item) == [(OTHER_QUANTITY, ""), (RESERVED, order_no)]
    assert await kit.left(sku) == 10


async def test_late_repeat_gets_its_answer_after_the_buyer_has_bought_again(kit: StockKit) -> None:
    """Whether the later order is live or not, by quantity too, and with any id that is allowed."""
    sku = await kit.load(sale_terms(units=50, limit=3, rebuy_allowed=True))
    user_id = new_id("buyer")
    items = [attempt(user_id, request_id=request_id, quantity=2) for request_id in REQUEST_IDS]
    orders = [(RESERVED, await bought_and_released(kit, sku, item)) for item in items]
    assert await kit.reserve(sku, *items) == orders
    ((_, live),) = await kit.reserve(sku, attempt(user_id, request_id="live"))
    assert await kit.reserve(sku, *items) == orders
    for item in items:
        item.quantity = 3
    assert await kit.reserve(sku, *items) == [(OTHER_QUANTITY, "")] * len(items)
    assert await kit.reserve(sku, attempt(user_id)) == [(ALREADY_PURCHASED, live)]
    assert (await kit.left(sku), await kit.held(sku)) == (49, 1)


async def test_repeat_in_the_batch_of_the_second_purchase_gets_its_answer(kit: StockKit) -> None:
    """What the batch itself has replaced counts."""
    sku = await kit.load(sale_terms(rebuy_allowed=True))
    first = attempt()
    order_no = await bought_and_released(kit, sku, first)
    second = attempt(first.user_id)
    (_, second_no), *others = await kit.reserve(sku, second, first, second)
    assert others == [(RESERVED, order_no), (RESERVED, second_no)]


async def test_the_last_ids_are_kept_and_older_ones_are_not(kit: StockKit) -> None:
    """What a buyer leaves in Redis is bounded."""
    sku = await kit.load(sale_terms(units=50, rebuy_allowed=True))
    user_id = new_id("buyer")
    items = [attempt(user_id) for _ in range(PAST_MAX + 3)]
    orders = [(RESERVED, await bought_and_released(kit, sku, item)) for item in items]
    assert await kit.reserve(sku, *items[2:]) == orders[2:]
    text: Any = await kit.redis.hget(past_key(sku), user_id)
    assert len(text.split()) == 3 * PAST_MAX
    ((outcome, order_no),) = await kit.reserve(sku, items[0])
    assert (outcome, order_no) != orders[0]


async def test_ids_of_other_buyers_are_their_own(kit: StockKit) -> None:
    """The same id of another buyer, or one that differs in case, is another attempt."""
    sku = await kit.load()
    results = await kit.reserve(
        sku,
        *(attempt("one", request_id="r"), attempt("two", request_id="r")),
        attempt("one", request_id="R"),
    )
    assert results == [
        (RESERVED, results[0][1]),
        (RESERVED, results[1][1]),
        (ALREADY_PURCHASED, results[0][1]),
    ]


async def test_an_attempt_that_got_nothing_is_decided_again(kit: StockKit) -> None:
    """Only what was reserved is remembered."""
    sku = await kit.load(sale_terms(units=1))
    winner, loser = attempt(), attempt()
    (_, order_no), lost = await kit.reserve(sku, winner, loser)
    assert lost == (SOLD_OUT, "")
    await kit.release(sku, (order_no, winner.user_id))
    assert (await kit.reserve(sku, loser))[0][0] == RESERVED


async def test_an_id_reserved_for_another_sku_is_refused(kit: StockKit) -> None:
    """As long as this process remembers it; the other attempts of the batch are decided."""
    sku, other = await kit.load(), await kit.load()
    item = attempt()
    ((_, order_no),) = await kit.reserve(sku, item)
    stranger = attempt(request_id=item.request_id)
    results = await kit.reserve(other, stranger, item, attempt(item.user_id))
    assert [outcome for outcome, _ in results] == [RESERVED, OTHER_SKU, RESERVED]
    assert await kit.reserve(other, item) == [(OTHER_SKU, "")]
    assert await kit.left(other) == 8
    assert await kit.reserve(sku, item) == [(RESERVED, order_no)]


async def test_our_rejection_does_not_count_against_the_buyer(kit: StockKit) -> None:
    """They may buy, though the sale does not allow buying again; the old id keeps its answer."""
    sku = await kit.load(sale_terms(units=5, limit=3))
    first, second = attempt(quantity=2), attempt()
    second.user_id = first.user_id
    ((_, rejected_no),) = await kit.reserve(sku, first)
    assert await kit.release(sku, (rejected_no, first.user_id), rejected=True) == [2]
    assert await kit.release(sku, (rejected_no, first.user_id), rejected=True) == [0]
    text: Any = await kit.redis.hget(users_key(sku), first.user_id)
    hold = parse_hold(first.user_id.encode(), text)
    assert (hold.released, hold.rejected, hold.quantity) == (True, True, 2)
    assert await kit.reserve(sku, first) == [(RESERVED, rejected_no)]
    ((outcome, order_no),) = await kit.reserve(sku, second)
    assert outcome == RESERVED
    assert await kit.reserve(sku, first, second) == [(RESERVED, rejected_no), (RESERVED, order_no)]
    # Their own cancellation does count.
    await kit.release(sku, (order_no, first.user_id))
    assert await kit.reserve(sku, attempt(first.user_id)) == [(LIMIT_EXCEEDED, "")]
    assert await kit.left(sku) == 5


async def test_rebuilt_sale_knows_earlier_requests_and_rejections(kit: StockKit) -> None:
    """Staged page by page: each request has its answer, and rejections do not count."""
    terms = sale_terms(units=10)
    numbers = [f"{n:026d}" for n in range(4)]
    orders = [
        ("twice", format_hold(numbers[0], quantity=1, request_id="r0", rejected=True)),
        ("once", format_hold(numbers[1], quantity=1, request_id="r1", rejected=True)),
        ("twice", format_hold(numbers[2], quantity=1, request_id="r2", released=True)),
        ("twice", format_hold(numbers[3], quantity=1, request_id="r3")),
    ]
    for page in (orders[:3], orders[3:]), tuple(orders[n : n + 1] for n in range(4)):
        await kit.loader.unstage(terms.sku, epoch=1)
        staged = NOTHING_STAGED
        for part in page:
            staged += await kit.loader.stage(terms.sku, part, epoch=1)
        await kit.redis.delete(users_key(terms.sku), f"seckill:sale:{{{terms.sku}}}")
        fields = to_fields(terms, now_ms=0)
        assert await kit.loader.load(
            terms.sku, fields, epoch=1, units=9, staged=staged, timeout_s=TIMEOUT_S
        )
        answers = await kit.reserve(
            terms.sku,
            *(attempt("twice", request_id=request_id) for request_id in ("r0", "r2", "r3")),
            *(attempt("once", request_id="r1"), attempt("once", request_id="r4")),
        )
        assert answers[:4] == [(RESERVED, numbers[n]) for n in (0, 2, 3, 1)]
        assert answers[4][0] == RESERVED
