"""Transitions of orders by statements: payments, cancellations, refunds, restored units."""

import asyncio
import random

import pytest

from seckill.errors import (
    NotAllowed,
    OrderNotFound,
    OrderStateConflict,
    PaymentMismatch,
    PaymentTooLate,
    PaymentUsed,
)
from tests.kits.order_store import PRICE, Store, payment, reservations


async def test_payment_against_expiry_has_one_winner_each(store: Store) -> None:
    """Each of 1,200 orders paid and expired at the same moment ends in exactly one of the two."""
    sku = await store.sale(total=1_200, window_s=1)
    order_nos = await store.pending(sku, 1_200)
    # Half of the orders' time ends while both sides are at it.
    await store.sql.execute(
        "UPDATE orders SET created_at = created_at - interval '1 h',"
        " expires_at = clock_timestamp() + random() * interval '1 s' WHERE sku = $1",
        sku,
    )
    rng = random.Random(11)
    # All at once would wait for a session of the database for longer than is waited for one.
    paying = asyncio.Semaphore(50)

    async def pay(number: str) -> bool:
        async with paying:
            try:
                return (await store.payments.pay(payment(number))).changed
            except PaymentTooLate:
                return False

    async def expire() -> set[str]:
        cancelled: set[str] = set()
        while len(cancelled) + await store.sql.fetchval(
            "SELECT count(*) FROM orders WHERE sku = $1 AND status = 'paid'", sku
        ) < len(order_nos):
            sample = rng.sample(order_nos, 600)
            changes = await store.orders.cancel_expired(sorted(sample))
            cancelled |= {change.order["order_no"] for change in changes if change.changed}
        return cancelled

    expiring = asyncio.create_task(expire())
    paid = await asyncio.gather(*map(pay, order_nos))
    async with asyncio.timeout(30):
        cancelled = await expiring
    winners = {number for number, won in zip(order_nos, paid, strict=True) if won}
    assert not winners & cancelled
    assert winners | cancelled == set(order_nos)
    facts = await store.facts(sku)
    assert facts["sold"] == facts["live"] == len(winners)
    assert facts["outbox"] == len(cancelled)
    late = await store.sql.fetchval("SELECT count(*) FROM payments WHERE reason = 'too_late'")
    assert late == len(cancelled)


async def test_payment_repeated_by_its_id_is_one_transition(store: Store) -> None:
    """Five notices of one payment at once change the order once and all answer the paid order."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    notice = payment(number)
    changes = await asyncio.gather(*(store.payments.pay(notice) for _ in range(5)))
    assert sum(change.changed for change in changes) == 1
    assert {change.order["status"] for change in changes} == {"paid"}
    with pytest.raises(OrderStateConflict):
        await store.payments.pay(payment(number))


async def test_payment_that_is_not_this_orders_is_refused(store: Store) -> None:
    """Another amount, currency or buyer, and a payment that has paid another order."""
    sku = await store.sale()
    first, second = await store.pending(sku, 2)
    for wrong in ({"amount_minor": PRICE - 1}, {"currency": "USD"}):
        with pytest.raises(PaymentMismatch):
            await store.payments.pay(payment(first, **wrong))
    with pytest.raises(NotAllowed):
        await store.payments.pay(payment(first, user_id="another-buyer"))
    paid = payment(first)
    await store.payments.pay(paid)
    with pytest.raises(PaymentUsed, match=f"has paid order {first}"):
        await store.payments.pay(payment(second, payment_id=paid.payment_id))
    assert (await store.orders.get(second))["status"] == "pending"


async def test_late_payment_is_on_record_once(store: Store) -> None:
    """An expired order cannot be paid before or after its cancellation; the notice is kept once."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    await store.expire(sku)
    notice = payment(number)
    with pytest.raises(PaymentTooLate):
        await store.payments.pay(notice)
    await store.orders.cancel_expired([number])
    with pytest.raises(PaymentTooLate):
        await store.payments.pay(notice)
    rows = await store.sql.fetch("SELECT payment_id, order_no, amount_minor, reason FROM payments")
    assert [tuple(row) for row in rows] == [(notice.payment_id, number, PRICE, "too_late")]


async def test_cancelling_twice_restores_once(store: Store) -> None:
    """The second call answers the cancelled order; a paid order cannot be cancelled."""
    sku = await store.sale()
    number, paid = await store.pending(sku, 2)
    await store.payments.pay(payment(paid))
    changes = [await store.orders.cancel(number, user_id="") for _ in range(2)]
    assert [change.changed for change in changes] == [True, False]
    with pytest.raises(OrderStateConflict):
        await store.orders.cancel(paid, user_id="")
    with pytest.raises(NotAllowed):
        await store.orders.cancel(number, user_id="another-buyer")
    assert await store.facts(sku) == {"sold": 1, "live": 1, "orders": 2, "ledger": 5, "outbox": 1}


async def test_expiry_spares_what_is_paid_or_in_time(store: Store) -> None:
    """Only pending orders whose time is over are cancelled."""
    sku = await store.sale()
    paid, expired = await store.pending(sku, 2)
    await store.payments.pay(payment(paid))
    await store.expire(sku)
    (in_time,) = await store.pending(sku, 1)
    assert await store.orders.expired(10) == [expired]
    changes = await store.orders.cancel_expired([paid, expired, in_time])
    states = {change.order["order_no"]: change.order["status"] for change in changes}
    assert states == {paid: "paid", expired: "cancelled", in_time: "pending"}
    assert [row["order_no"] for row in await store.orders.unrestored(10)] == [expired]


@pytest.mark.parametrize("restock", [True, False])
async def test_refund_is_one_transition(store: Store, restock: bool) -> None:
    """Five notices of one refund at once: one change, one event, units back only if told to."""
    sku = await store.sale()
    (number,) = await store.pending(sku, 1)
    await store.payments.pay(payment(number))
    changes = await asyncio.gather(
        *(store.orders.refund(number, refund_id="r-1", restock=restock) for _ in range(5))
    )
    assert sum(change.changed for change in changes) == 1
    assert {change.order["status"] for change in changes} == {"refunded"}
    facts = await store.facts(sku)
    assert (facts["sold"], facts["outbox"]) == ((0, 1) if restock else (1, 0))
    assert facts["ledger"] == 4
    totals = await store.sales.totals(sku)
    assert totals["written_off_units"] == (0 if restock else 1)
    kinds = await store.sql.fetch("SELECT kind FROM order_events ORDER BY id")
    assert [row["kind"] for row in kinds] == ["created", "paid", "refunded"]


async def test_refund_that_does_not_fit_is_refused(store: Store) -> None:
    """Unpaid, refunded otherwise, restocked otherwise, or the refund of another order."""
    sku = await store.sale()
    pending, paid, other = await store.pending(sku, 3)
    for number in (paid, other):
        await store.payments.pay(payment(number))
    with pytest.raises(OrderStateConflict, match="pending"):
        await store.orders.refund(pending, refund_id="r-1", restock=True)
    with pytest.raises(OrderNotFound):
        await store.orders.refund("0" * 26, refund_id="r-1", restock=True)
    await store.orders.refund(paid, refund_id="r-1", restock=True)
    with pytest.raises(OrderStateConflict, match="another refund"):
        await store.orders.refund(paid, refund_id="r-2", restock=True)
    with pytest.raises(OrderStateConflict, match="restocked"):
        await store.orders.refund(paid, refund_id="r-1", restock=False)
    with pytest.raises(OrderStateConflict, match="another order"):
        await store.orders.refund(other, refund_id="r-1", restock=True)
    assert (await store.facts(sku))["sold"] == 2


async def test_each_transition_writes_its_event_once(store: Store) -> None:
    """Created, rejected, paid, cancelled and paid too late; repeating writes none."""
    sku = await store.sale(total=2)
    events = reservations(sku, 3)
    paid, cancelled, rejected = sorted(event.order_no for event in events)
    notice, late = payment(paid), payment(cancelled)
    for _ in range(2):
        await store.writer.write(events)
        await store.payments.pay(notice)
        await store.orders.cancel(cancelled, user_id="")
        with pytest.raises(PaymentTooLate):
            await store.payments.pay(late)
    rows = await store.sql.fetch("SELECT order_no, kind, payment_id FROM order_events ORDER BY id")
    assert {tuple(row) for row in rows[:3]} == {
        (paid, "created", None),
        (cancelled, "created", None),
        (rejected, "rejected", None),
    }
    assert [tuple(row) for row in rows[3:]] == [
        (paid, "paid", None),
        (cancelled, "cancelled", None),
        (cancelled, "payment_too_late", late.payment_id),
    ]


async def test_restored_units_are_marked_once(store: Store) -> None:
    """Marking twice, also at the same time, notes and records each order once."""
    sku = await store.sale(total=1)
    await store.writer.write(reservations(sku, 20))
    waiting = [row["order_no"] for row in await store.orders.unrestored(100)]
    marked = await asyncio.gather(*(store.orders.mark_restored(waiting) for _ in range(3)))
    assert sorted(number for numbers in marked for number in numbers) == sorted(waiting)
    assert await store.orders.unrestored(100) == []
    assert (await store.facts(sku))["ledger"] == 1 + 20 + 19
    assert (await store.sales.totals(sku))["restored_units"] == 19
