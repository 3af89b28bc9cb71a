"""A sale that Redis has lost comes back from the database, and no unit is sold twice."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from devstack import Stores
from inventory_svc.keys import outbox_key, sale_key, skus_key, stock_key, users_key
from seckill.order_no import make_order_nos
from seckill.status import reason_of
from seckill.v1 import events_pb2, inventory_pb2, order_pb2, sale_pb2
from tests.kits.factories import moment, new_id
from tests.kits.keys import until_drained
from tests.kits.recovery import RESERVED, DamagedShop, buyers_of, open_shop, terms_of
from tests.kits.rollback import TIMEOUT_S
from tests.kits.stores import Topics
from tests.kits.waiting import eventually

ALREADY_PURCHASED = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
UNITS = 10


@pytest.fixture
async def shop(
    stores: Stores, redis_url: str, database_dsn: str, topics: Topics
) -> AsyncIterator[DamagedShop]:
    """Both services, running, on stores of the test's own."""
    async with open_shop(
        stores, redis_url=redis_url, database_dsn=database_dsn, topics=topics
    ) as opened:
        yield opened


def reservation(sku: str, *, user_id: str = "", epoch: int = 1) -> events_pb2.OrderReserved:
    """What a relay has read from an outbox that is no more."""
    user_id = user_id or new_id("buyer")
    (order_no,) = make_order_nos([user_id], now_s=time.time(), rng=random.Random())
    return events_pb2.OrderReserved(
        order_no=order_no, sku=sku, user_id=user_id, request_id="r", quantity=1, epoch=epoch
    )


async def bought(shop: DamagedShop, sku: str, user_id: str) -> str:
    """Number of a buyer's order, once the database has it."""
    result = await shop.reserve(sku, user_id)
    assert result.outcome == RESERVED
    await shop.written(result.order_no)
    return result.order_no


async def refused(shop: DamagedShop, sku: str, *, timeout_s: float = 20.0) -> str | None:
    """The reason that a rebuild is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.rebuild(sku, timeout_s=timeout_s)
    return reason_of(caught.value)


async def test_sale_that_starts_at_once_is_created_again_and_rebuilt(shop: DamagedShop) -> None:
    """The database knows no start of it: the same terms are the same sale, and it sells."""
    terms = terms_of(UNITS)
    terms.ClearField("start_time")
    sku = await shop.create(terms)
    await shop.inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(sku=sku, start_time=moment(-50)), timeout=TIMEOUT_S
    )
    assert await shop.create(terms) == sku
    never_updated = terms_of(UNITS)
    never_updated.ClearField("start_time")
    await shop.create(never_updated)
    for lost in (terms.sku, never_updated.sku):
        await shop.lose(lost)
        sale = await shop.rebuild(lost)
        assert sale.terms.start_time.ToMilliseconds() <= moment(0).ToMilliseconds()
        assert (await shop.reserve(lost, new_id("buyer"))).outcome == RESERVED


async def test_lost_sale_comes_back_with_what_is_sold_and_who_holds_it(shop: DamagedShop) -> None:
    """Pending and paid orders hold their units, cancelled ones do not; each buyer is known."""
    sku = await shop.create(terms_of(UNITS))
    buyers = {name: new_id(name) for name in ("pending", "paid", "cancelled")}
    numbers = {name: await bought(shop, sku, user) for name, user in buyers.items()}
    await shop.pay(numbers["paid"])
    await shop.cancel(numbers["cancelled"])
    await shop.lose(sku)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.reserve(sku, new_id("buyer"))
    assert reason_of(caught.value) == "SALE_NOT_LOADED"
    sale = await shop.rebuild(sku)
    assert (sale.loaded, sale.epoch, sale.remaining_units) == (True, 2, UNITS - 2)
    for name, user in buyers.items():
        again = await shop.reserve(sku, user)
        assert (again.outcome, again.order_no) == (RESERVED, numbers[name])
    other = await shop.reserve(sku, buyers["paid"], request_id="second")
    assert (other.outcome, other.order_no) == (ALREADY_PURCHASED, numbers["paid"])
    other = await shop.reserve(sku, buyers["cancelled"], request_id="second")
    assert other.outcome == LIMIT_EXCEEDED
    assert await shop.stock(sku) == UNITS - 2


async def test_what_only_holds_know_of_is_sent_before_they_are_replaced(shop: DamagedShop) -> None:
    """Kafka has lost what was reserved, then Redis the sale's counter: each buyer who was told so
    gets their order and keeps their hold. What was released stays released.
    """
    sku = await shop.create(terms_of(UNITS))
    known = await bought(shop, sku, new_id("buyer"))
    cancelled = await bought(shop, sku, new_id("buyer"))
    await shop.cancel(cancelled)
    promised = await shop.reserve_unsent(sku, buyers_of(3))
    await shop.redis.delete(stock_key(sku))
    sale = await shop.rebuild(sku)
    orders = await shop.found([*promised, known, cancelled])
    assert [(order.order_no, order.state) for order in orders] == [
        *((number, order_pb2.ORDER_STATE_PENDING) for number in [*promised, known]),
        (cancelled, order_pb2.ORDER_STATE_CANCELLED),
    ]
    held: dict[bytes, bytes] = await shop.redis.hgetall(users_key(sku))  # type: ignore[assignment]
    live = {text[:26].decode() for text in held.values() if not text.startswith(b"-")}
    assert live == {*promised, known}
    assert sale.remaining_units == UNITS - 4


async def test_order_cancelled_while_the_sale_was_lost_returns_its_unit_once(
    shop: DamagedShop,
) -> None:
    """Cancelled before the rebuild or after it: the sweeper brings it back exactly once."""
    sku = await shop.create(terms_of(UNITS))
    before, after = [await bought(shop, sku, new_id("buyer")) for _ in range(2)]
    await shop.lose(sku)
    await shop.cancel(before)
    sweeper = await shop.sweeper()
    assert (await sweeper.run_once(time.time())).refused_skus == {sku}
    await shop.rebuild(sku)
    await shop.cancel(after)

    async def restored() -> int:
        assert (await sweeper.run_once(time.time())).ok
        return (await shop.totals(sku)).restored_units

    # What the first round could not return comes due again when its claim ends.
    await eventually(restored, lambda units: units == 2)
    assert (await sweeper.run_once(time.time(), everything=True)).restored_units == 0
    assert await shop.stock(sku) == UNITS


async def test_loaded_sale_is_left_alone(shop: DamagedShop) -> None:
    """FAILED_PRECONDITION, and neither the epoch nor the stock has moved."""
    sku = await shop.create(terms_of(UNITS))
    await bought(shop, sku, new_id("buyer"))
    assert await refused(shop, sku) == "SALE_STATE"
    assert await shop.sql.fetchval("SELECT epoch FROM sales WHERE sku = $1", sku) == 1
    assert await shop.stock(sku) == UNITS - 1


async def test_unknown_sale_is_not_found(shop: DamagedShop) -> None:
    """Only what is registered can be rebuilt; nothing is left behind."""
    sku = new_id("sku")
    assert await refused(shop, sku) == "SALE_NOT_FOUND"
    assert not await shop.redis.sismember("seckill:skus", sku)


async def test_crash_between_registering_and_loading_is_healed(shop: DamagedShop) -> None:
    """CreateSale said again loads the whole stock, by a rebuild; also many times at once."""
    terms = terms_of(UNITS)
    for stamp in (terms.start_time, terms.end_time):
        stamp.FromMilliseconds(stamp.ToMilliseconds())
    await shop.orders.RegisterSale(order_pb2.RegisterSaleRequest(terms=terms), timeout=TIMEOUT_S)
    await asyncio.gather(*(shop.create(terms) for _ in range(8)))
    assert await shop.stock(terms.sku) == UNITS
    await bought(shop, terms.sku, new_id("buyer"))


async def test_the_same_terms_are_the_same_sale_whatever_became_of_it(shop: DamagedShop) -> None:
    """It began at once, was changed in Redis and in the database, sold a unit and was lost."""
    terms = terms_of(UNITS)
    terms.ClearField("start_time")
    sku = await shop.create(terms)
    await shop.inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(
            sku=sku, start_time=moment(-50), state=sale_pb2.SALE_STATE_PAUSED
        ),
        timeout=TIMEOUT_S,
    )
    assert await shop.create(terms) == sku
    await shop.inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_OPEN), timeout=TIMEOUT_S
    )
    await bought(shop, sku, new_id("buyer"))
    # As operators change it (order_svc/sales/sql).
    await shop.sql.execute(
        "UPDATE sales SET first_title = title, first_total = total,"
        " title = 'another', total = total + 1"
    )
    await shop.lose(sku)
    again = await shop.inventory.CreateSale(
        inventory_pb2.CreateSaleRequest(terms=terms), timeout=TIMEOUT_S
    )
    assert (again.sale.epoch, again.sale.remaining_units) == (2, UNITS)
    assert again.sale.terms.start_time.ToSeconds() < moment(-40).ToSeconds()
    terms.title = "another"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.create(terms)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_sales_that_redis_has_lost_are_listed_while_they_may_sell(
    shop: DamagedShop,
) -> None:
    """In pages; neither what is loaded, nor what is closed or over."""
    first, second, closed, over, loaded = [await shop.create(terms_of(UNITS)) for _ in range(5)]
    await shop.inventory.UpdateSale(
        inventory_pb2.UpdateSaleRequest(sku=closed, state=sale_pb2.SALE_STATE_CLOSED),
        timeout=TIMEOUT_S,
    )
    await shop.sql.execute(
        "UPDATE sales SET starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'"
        " WHERE sku = $1",
        over,
    )
    for sku in (first, second, closed, over):
        await shop.lose(sku)
    request = inventory_pb2.ListLostSalesRequest(page_size=1)
    found: set[str] = set()
    while True:
        page = await shop.inventory.ListLostSales(request, timeout=TIMEOUT_S)
        assert len(page.skus) <= 1
        found.update(page.skus)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == {first, second}
    assert loaded not in found


async def test_rebuild_waits_for_the_consumers(shop: DamagedShop) -> None:
    """While reservations in Kafka are no orders yet it is refused; then they are counted."""
    sku = await shop.create(terms_of(UNITS))
    lock = shop.sql.transaction()
    await lock.start()
    await shop.sql.execute("SELECT FROM sales WHERE sku = $1 FOR UPDATE", sku)
    order_no = (await shop.reserve(sku, new_id("buyer"))).order_no
    await until_drained(shop.redis, sku)
    await shop.lose(sku)
    assert await refused(shop, sku, timeout_s=4.0) == "PIPELINE_BUSY"
    await lock.rollback()
    sale = await shop.rebuild(sku)
    assert (sale.epoch, sale.remaining_units) == (2, UNITS - 1)
    assert await shop.order(order_no) is not None


async def test_what_is_left_of_the_outbox_is_relayed_first(shop: DamagedShop) -> None:
    """An entry whose sale is lost becomes an order, and its buyer's hold comes back."""
    sku = await shop.create(terms_of(UNITS))
    event = reservation(sku)
    words = (event.order_no, 1, 1, int(time.time() * 1000), event.request_id, event.user_id)
    await shop.redis.delete(sale_key(sku), stock_key(sku))
    await shop.redis.delete(skus_key())
    await shop.redis.xadd(outbox_key(sku), {"o": " ".join(map(str, words))})
    assert (await shop.rebuild(sku)).remaining_units == UNITS - 1
    again = await shop.reserve(sku, event.user_id, request_id="r")
    assert (again.outcome, again.order_no) == (RESERVED, event.order_no)


async def test_event_of_an_older_epoch_is_an_order_while_there_is_room(shop: DamagedShop) -> None:
    """Redis did not count it, so a later buyer may be rejected; the total is never passed."""
    sku = await shop.create(terms_of(2))
    await shop.lose(sku)
    await shop.rebuild(sku)
    late = [reservation(sku) for _ in range(2)]
    await shop.send(late[:1])
    first = await shop.written(late[0].order_no)
    assert first is not None
    assert first.state == order_pb2.ORDER_STATE_PENDING
    results = [await shop.reserve(sku, new_id("buyer")) for _ in range(3)]
    assert [result.outcome for result in results] == [RESERVED, RESERVED, SOLD_OUT]
    await shop.send(late[1:])
    numbers = [event.order_no for event in late] + [result.order_no for result in results[:2]]
    orders = [await shop.written(n) for n in numbers]
    states = sorted(order.state for order in orders if order)
    pending, rejected = order_pb2.ORDER_STATE_PENDING, order_pb2.ORDER_STATE_REJECTED
    assert states == [pending, pending, rejected, rejected]
    assert (await shop.totals(sku)).sold_units == 2


async def test_what_operators_changed_comes_back(shop: DamagedShop) -> None:
    """A paused and rescheduled sale is paused after the rebuild, with its new window."""
    sku = await shop.create(terms_of(UNITS))
    update = inventory_pb2.UpdateSaleRequest
    end = moment(7_200)
    await shop.inventory.UpdateSale(update(sku=sku, end_time=end), timeout=TIMEOUT_S)
    await shop.inventory.UpdateSale(
        update(sku=sku, state=sale_pb2.SALE_STATE_PAUSED), timeout=TIMEOUT_S
    )
    await shop.lose(sku)
    sale = await shop.rebuild(sku)
    assert sale.state == sale_pb2.SALE_STATE_PAUSED
    assert sale.terms.end_time.ToMilliseconds() == end.ToMilliseconds()
    reopened = await shop.inventory.UpdateSale(
        update(sku=sku, state=sale_pb2.SALE_STATE_OPEN), timeout=TIMEOUT_S
    )
    assert reopened.sale.state == sale_pb2.SALE_STATE_OPEN
    await shop.lose(sku)
    assert (await shop.rebuild(sku)).state == sale_pb2.SALE_STATE_OPEN


async def test_change_that_arrives_late_does_not_undo_a_later_one(shop: DamagedShop) -> None:
    """The revision decides, not the time of arrival."""
    sku = await shop.create(terms_of(UNITS))

    async def record(revision: int, state: sale_pb2.SaleState.ValueType) -> int:
        request = order_pb2.RecordSaleRequest(
            sku=sku, state=state, start_time=moment(0), end_time=moment(9), revision=revision
        )
        return (await shop.orders.RecordSale(request, timeout=TIMEOUT_S)).revision

    assert await record(2, sale_pb2.SALE_STATE_PAUSED) == 2
    assert await record(1, sale_pb2.SALE_STATE_OPEN) == 2
    state = await shop.sql.fetchval("SELECT state FROM sale_records WHERE sku = $1", sku)
    assert state == "paused"


async def test_closing_again_is_the_same_as_once(shop: DamagedShop) -> None:
    """The answer to the first try may have been lost; reopening stays refused."""
    sku = await shop.create(terms_of(UNITS))
    closing = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_CLOSED)
    for _ in range(2):
        answer = await shop.inventory.UpdateSale(closing, timeout=TIMEOUT_S)
        assert answer.sale.state == sale_pb2.SALE_STATE_CLOSED
    opening = inventory_pb2.UpdateSaleRequest(sku=sku, state=sale_pb2.SALE_STATE_OPEN)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.inventory.UpdateSale(opening, timeout=TIMEOUT_S)
    assert reason_of(caught.value) == "SALE_STATE"


async def test_rebuilds_at_the_same_moment_load_once(shop: DamagedShop) -> None:
    """Four are asked for: one loads, the others are told so, and the stock is right."""
    sku = await shop.create(terms_of(UNITS))
    await bought(shop, sku, new_id("buyer"))
    await shop.lose(sku)
    results = await asyncio.gather(*(shop.rebuild(sku) for _ in range(4)), return_exceptions=True)
    told = [reason_of(r) for r in results if isinstance(r, grpc.aio.AioRpcError)]
    assert set(told) <= {"SALE_STATE", "PIPELINE_BUSY"}
    assert len(told) < 4
    assert await shop.stock(sku) == UNITS - 1
    await bought(shop, sku, new_id("buyer"))
    assert (await shop.totals(sku)).sold_units == 2
