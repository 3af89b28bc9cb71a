"""A payment has one fate, for ever and over all orders; what paid no order is owed back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from order_svc.audit.audit import audit_sale
from order_svc.audit.ledger import Rule
from order_svc.db.database import Database
from order_svc.metrics import PAYMENTS_TOTAL
from order_svc.payments.model import REASONS
from seckill.errors import (
    NotAllowed,
    OrderNotFound,
    OrderStateConflict,
    PaymentMismatch,
    PaymentNotFound,
    PaymentStateConflict,
    PaymentTooLate,
    PaymentUsed,
    SeckillError,
)
from tests.kits.factories import PRICE, new_id
from tests.kits.payments import Till, open_till, paid

UNKNOWN_ORDER = "0" * 26


@pytest.fixture
async def till(database_dsn: str) -> AsyncIterator[Till]:
    """A sale of the test's own."""
    async with open_till(database_dsn) as opened:
        yield opened


def counted(state: str, reason: str) -> float:
    """How many payments the metric has."""
    return float(PAYMENTS_TOTAL.labels(state, reason)._value.get())


async def test_payment_of_one_order_is_never_owed_for_another(till: Till) -> None:
    """P pays A; stated for the cancelled B it is refused naming A, and nothing is owed."""
    first, second = await till.order(), await till.order("cancelled")
    payment = paid(first)
    await till.payments.pay(payment)
    with pytest.raises(PaymentUsed, match=first) as caught:
        await till.payments.pay(replace(payment, order_no=second))
    assert caught.value.metadata == {"order_no": first, "payment_state": "applied"}
    assert await till.on_record(payment) == ("applied", None, first)
    assert await till.announced(second) == []


async def test_payment_that_is_owed_pays_no_order(till: Till) -> None:
    """Q comes late for C; it cannot pay the live D, which stays pending."""
    late, live = await till.order("cancelled"), await till.order()
    payment = paid(late)
    with pytest.raises(PaymentTooLate):
        await till.payments.pay(payment)
    with pytest.raises(PaymentUsed, match=f"is to be refunded.*{late}"):
        await till.payments.pay(replace(payment, order_no=live))
    assert await till.on_record(payment) == ("to_refund", "too_late", late)
    assert (await till.orders.get(live))["status"] == "pending"


async def test_payment_late_twice_is_owed_for_the_first(till: Till) -> None:
    """The second use is refused naming the first, and announced for the first only."""
    first, second = await till.order("cancelled"), await till.order("expired")
    payment = paid(first)
    with pytest.raises(PaymentTooLate):
        await till.payments.pay(payment)
    with pytest.raises(PaymentUsed, match=first):
        await till.payments.pay(replace(payment, order_no=second))
    assert await till.announced(first) == ["payment_too_late"]
    assert await till.announced(second) == []


WRONG_AMOUNT: dict[str, object] = {"amount_minor": PRICE.minor_units + 1}
WRONG_CURRENCY: dict[str, object] = {"currency": "XAU"}
OWED: list[tuple[str, dict[str, object], str, type[SeckillError]]] = [
    ("paid", {}, "already_paid", OrderStateConflict),
    ("refunded", {}, "order_refunded", OrderStateConflict),
    ("rejected", {"amount_minor": PRICE.minor_units * 10_000}, "order_rejected", PaymentTooLate),
    ("cancelled", {}, "too_late", PaymentTooLate),
    ("expired", {}, "too_late", PaymentTooLate),
    ("unknown", {}, "unknown_order", OrderNotFound),
    *[
        (state, change, reason, PaymentMismatch)
        for state in ("pending", "expired", "paid", "cancelled", "refunded", "rejected")
        for change, reason in (
            (WRONG_AMOUNT, "wrong_amount"),
            (WRONG_CURRENCY, "wrong_currency"),
        )
    ],
]


@pytest.mark.parametrize(("state", "change", "reason", "refusal"), OWED)
async def test_what_paid_no_order_is_owed_back(
    till: Till, state: str, change: dict[str, object], reason: str, refusal: type[SeckillError]
) -> None:
    """It is on record with its reason, announced and counted once; repeating answers the same."""
    number = UNKNOWN_ORDER if state == "unknown" else await till.order(state)
    before, count = await till.announced(number), counted("to_refund", reason)
    payment = paid(number, **change)
    for _ in range(2):
        with pytest.raises(refusal) as caught:
            await till.payments.pay(payment)
        assert caught.value.metadata == {"payment_state": "to_refund", "payment_reason": reason}
    assert await till.on_record(payment) == ("to_refund", reason, number)
    late = reason in ("too_late", "order_rejected")
    kind = "payment_too_late" if late else "payment_to_refund"
    assert await till.announced(number) == [*before, kind]
    assert counted("to_refund", reason) == count + 1


def test_every_reason_is_tried() -> None:
    """The closed set of reasons is that of the cases above."""
    tried = {reason for _, _, reason, _ in OWED}
    assert tried == {name for name, value in REASONS.items() if value}


async def test_order_that_may_still_come_decides_nothing(till: Till) -> None:
    """Nothing is on record, the caller is told to ask again; then the payment pays."""
    number = await till.order()
    payment = paid(number)
    with pytest.raises(OrderNotFound) as caught:
        await till.payments.pay(replace(payment, order_no="1" * 26), order_may_come=True)
    assert caught.value.retry_after_s is not None
    assert await till.on_record(payment) is None
    assert (await till.payments.pay(payment, order_may_come=True)).changed


@pytest.mark.parametrize("before", ["payments/find_payment", "orders/find_orders"])
async def test_order_that_comes_and_is_paid_meanwhile_is_seen_paid(
    till: Till, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """The same payment, stated at another replica a moment later, has paid an order that was not
    there: a caller who looks then sees the order paid, or is told to ask again.
    """
    payment = paid(till.number())
    fetch, came = Database.fetch, False

    async def meanwhile(database: Database, name: str, *arguments: Any) -> list[Any]:
        nonlocal came
        if name == before and not came:
            came = True
            await till.order(number=payment.order_no)
            assert (await till.payments.pay(payment)).changed
        return await fetch(database, name, *arguments)

    monkeypatch.setattr(Database, "fetch", meanwhile)
    with suppress(OrderNotFound):
        await till.payments.pay(payment, order_may_come=True)
    change = await till.payments.pay(payment, order_may_come=True)
    assert (change.order["status"], change.changed) == ("paid", False)


async def test_order_that_comes_while_its_payment_is_looked_for_is_not_shown_unpaid(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before the first look, and is paid at another replica before the second."""
    payment = paid(till.number())
    fetch, looks = Database.fetch, 0

    async def meanwhile(database: Database, name: str, *arguments: Any) -> list[Any]:
        nonlocal looks
        if name in ("payments/find_payment", "orders/find_orders"):
            looks += 1
            if looks == 1:
                await till.order(number=payment.order_no)
            elif looks == 2:
                assert (await till.payments.pay(payment)).changed
        return await fetch(database, name, *arguments)

    monkeypatch.setattr(Database, "fetch", meanwhile)
    with pytest.raises(OrderNotFound) as refused:
        await till.payments.pay(payment, order_may_come=True)
    assert refused.value.retry_after_s is not None
    change = await till.payments.pay(payment)
    assert (change.order["status"], change.changed) == ("paid", False)


async def test_buyers_state_nothing_for_other_buyers(till: Till) -> None:
    """Another buyer's payment is refused without a record."""
    payment = paid(await till.order(), user_id="another")
    with pytest.raises(NotAllowed):
        await till.payments.pay(payment)
    assert await till.on_record(payment) is None


async def test_same_statement_with_another_amount_is_another_statement(till: Till) -> None:
    """P is on record with its amount; stated with another one it is refused, not owed."""
    number = await till.order()
    payment = paid(number)
    await till.payments.pay(payment)
    for change in (WRONG_AMOUNT, WRONG_CURRENCY):
        with pytest.raises(PaymentUsed, match="on record"):
            await till.payments.pay(replace(payment, **change))  # type: ignore[arg-type]
    assert await till.on_record(payment) == ("applied", None, number)


async def test_providers_have_ids_of_their_own(till: Till) -> None:
    """The same id of two providers names two payments."""
    first, second = await till.order(), await till.order()
    payment = paid(first)
    await till.payments.pay(payment)
    await till.payments.pay(replace(payment, order_no=second, provider="another"))
    assert (await till.orders.get(second))["status"] == "paid"


async def test_one_payment_for_many_orders_at_once_pays_one(till: Till) -> None:
    """Of thirty statements at the same moment one pays; no transaction waits for another's lock."""
    numbers = [await till.order() for _ in range(30)]
    payment = paid(numbers[0])

    async def state(number: str) -> str:
        try:
            await till.payments.pay(replace(payment, order_no=number))
        except PaymentUsed:
            return "used"
        return "paid"

    told = await asyncio.gather(*map(state, numbers))
    assert sorted(told) == ["paid", *["used"] * 29]
    rows = await till.sql.fetch("SELECT order_no FROM orders WHERE status = 'paid'")
    assert [row["order_no"] for row in rows] == [numbers[told.index("paid")]]
    assert await till.sql.fetchval("SELECT count(*) FROM payments") == 1
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await till.sql.fetchval(deadlocks) == 0


async def test_many_payments_for_one_order_at_once_pay_it_once(till: Till) -> None:
    """Of thirty payments one is applied, the others are owed as second ones."""
    number = await till.order()
    results = await asyncio.gather(
        *(till.payments.pay(paid(number)) for _ in range(30)), return_exceptions=True
    )
    assert sum(isinstance(result, OrderStateConflict) for result in results) == 29
    rows = await till.sql.fetch(
        "SELECT reason, count(*) FROM payments GROUP BY reason ORDER BY reason NULLS FIRST"
    )
    assert [tuple(row) for row in rows] == [(None, 1), ("already_paid", 29)]


async def test_refund_of_the_order_refunds_its_payment(till: Till) -> None:
    """The payment follows the order; stated again it answers the refunded order."""
    number = await till.order()
    payment = paid(number)
    await till.payments.pay(payment)
    await till.orders.refund(number, refund_id="r-1", restock=False)
    assert await till.on_record(payment) == ("refunded", None, number)
    change = await till.payments.pay(payment)
    assert (change.order["status"], change.changed) == ("refunded", False)


async def test_settled_payment_is_refunded_once(till: Till) -> None:
    """By its own refund, again with the same answer; by no other, and no other payment by it."""
    number = await till.order("cancelled")
    first, second = paid(number), paid(number)
    for payment in (first, second):
        with pytest.raises(PaymentTooLate):
            await till.payments.pay(payment)
    count = counted("refunded", "too_late")
    rows = [
        await till.payments.settle(first.provider, first.payment_id, refund_id="r-1")
        for _ in range(2)
    ]
    assert rows[0] == rows[1]
    assert (rows[0]["state"], rows[0]["refund_id"]) == ("refunded", "r-1")
    assert counted("refunded", "too_late") == count + 1
    with pytest.raises(PaymentStateConflict, match="another refund"):
        await till.payments.settle(first.provider, first.payment_id, refund_id="r-2")
    with pytest.raises(PaymentStateConflict, match="another payment"):
        await till.payments.settle(second.provider, second.payment_id, refund_id="r-1")
    with pytest.raises(PaymentTooLate):
        await till.payments.pay(first)


async def test_only_what_is_owed_can_be_settled(till: Till) -> None:
    """The payment of a paid order is refunded with the order; an unknown one is not found."""
    number = await till.order()
    payment = paid(number)
    await till.payments.pay(payment)
    with pytest.raises(PaymentStateConflict, match=number):
        await till.payments.settle(payment.provider, payment.payment_id, refund_id="r-1")
    with pytest.raises(PaymentNotFound):
        await till.payments.settle(payment.provider, new_id("payment"), refund_id="r-1")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM payments",
        "UPDATE payments SET order_no = 'other'",
        "UPDATE payments SET amount_minor = 0",
        "UPDATE payments SET state = 'applied', reason = NULL",
    ],
)
async def test_fate_cannot_be_changed(till: Till, statement: str) -> None:
    """No user rewrites it, not even the table's owner."""
    with pytest.raises(PaymentTooLate):
        await till.payments.pay(paid(await till.order("cancelled")))
    with pytest.raises(asyncpg.RestrictViolationError):
        await till.sql.execute(statement)


async def test_audit_accounts_for_all_that_was_taken(till: Till) -> None:
    """Applied, to be refunded and refunded add up to what was taken, for each currency."""
    number = await till.order("paid")
    await till.order("refunded")
    owed = [paid(number), paid(number, currency="XAU", amount_minor=7)]
    for payment in owed:
        with pytest.raises(SeckillError):
            await till.payments.pay(payment)
    await till.payments.settle(owed[1].provider, owed[1].payment_id, refund_id="r-1")
    found = await audit_sale(till.dsn, till.sku)
    assert found.wrong is None
    price = PRICE.minor_units
    assert [
        (money.currency, money.taken, money.applied, money.to_refund, money.refunded)
        for money in found.money
    ] == sorted([(PRICE.currency, 3 * price, price, price, price), ("XAU", 7, 0, 0, 7)])


@pytest.mark.parametrize(
    "change",
    ["payment_id = 'another'", "amount_minor = amount_minor + 1", "currency = 'XAU'"],
)
async def test_audit_finds_an_order_that_its_payment_contradicts(till: Till, change: str) -> None:
    """What paid an order is the payment on record, of its amount and currency."""
    number = await till.order("paid")
    await till.sql.execute(f"UPDATE orders SET {change} WHERE order_no = $1", number)  # noqa: S608
    wrong = (await audit_sale(till.dsn, till.sku)).wrong
    assert wrong is not None
    assert wrong.rule is Rule.PAYMENTS_AGREE
    assert number in wrong.explanation
