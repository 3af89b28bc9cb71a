"""Random sequences of orders and payments, also at once, against a model of their outcomes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from order_svc.audit.audit import audit_sale
from order_svc.payments.model import Payment
from seckill.errors import SeckillError
from tests.kits.factories import PRICE, new_id
from tests.kits.payments import Till, open_till, paid

STATES = ["pending", "expired", "paid", "cancelled", "refunded", "rejected"]
# How a statement may differ from what its order awaits.
CHANGES: list[dict[str, object]] = [
    {},
    {},
    {},
    {"amount_minor": PRICE.minor_units - 1},
    {"currency": "XAU"},
]
UNKNOWN_ORDER = "0" * 26
ENDED = {"cancelled": "too_late", "expired": "too_late"}
LATER = {"paid": "already_paid", "refunded": "order_refunded", "rejected": "order_rejected"}
Name = tuple[str, str]
T = TypeVar("T")


class World:
    """One sale on a real database; every method is blocking."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.till: Till = self.run(self._stack.enter_async_context(open_till(dsn, units=9_000)))

    def run(self, work: Awaitable[T]) -> T:
        """Wait for it."""

        async def wait() -> T:
            return await work

        return self._runner.run(wait())

    def close(self) -> None:
        """Disconnect."""
        self._runner.run(self._stack.aclose())
        self._runner.close()


@dataclass(frozen=True)
class PaymentOutcome:
    """What must be on record of a payment."""

    order_no: str
    amount: int
    currency: str
    state: str
    reason: str | None


@dataclass
class Model:
    """What should be true.

    Attributes:
        orders: number → state; "expired" is pending and out of time.
        price: number → amount.
        outcomes: (provider, payment id) → its outcome.
    """

    orders: dict[str, str] = field(default_factory=dict)
    price: dict[str, int] = field(default_factory=dict)
    outcomes: dict[Name, PaymentOutcome] = field(default_factory=dict)

    def state(self, payment: Payment) -> str:
        """Record a statement; return what its caller is told."""
        name = (payment.provider, payment.payment_id)
        stated = (payment.order_no, payment.amount_minor, payment.currency)
        known = self.outcomes.get(name)
        if known is None:
            reason = self._reason(payment)
            known = PaymentOutcome(*stated, "to_refund" if reason else "applied", reason)
            self.outcomes[name] = known
            if reason is None:
                self.orders[payment.order_no] = "paid"
        elif (known.order_no, known.amount, known.currency) != stated:
            return "used"
        return known.reason or "pays"

    def _reason(self, payment: Payment) -> str | None:
        state = self.orders.get(payment.order_no)
        if state is None:
            return "unknown_order"
        if payment.currency != PRICE.currency:
            return "wrong_currency"
        if payment.amount_minor != self.price[payment.order_no]:
            return "wrong_amount"
        return (ENDED | LATER).get(state)

    def refund(self, number: str) -> None:
        """Refund a paid order, and so the payment that paid it."""
        self.orders[number] = "refunded"
        for name, outcome in self.outcomes.items():
            if (outcome.order_no, outcome.reason) == (number, None):
                self.outcomes[name] = replace(outcome, state="refunded")


class PaymentMachine(RuleBasedStateMachine):
    """Draws what happens next."""

    world: World

    @initialize()
    def start(self) -> None:
        self.model = Model()
        self.ids = [new_id("payment") for _ in range(5)]

    @rule(state=st.sampled_from(STATES))
    def order(self, state: str) -> None:
        number = self.world.run(self.world.till.order(state))
        self.model.orders[number] = state
        self.model.price[number] = PRICE.minor_units * (1 if state != "rejected" else 10_000)
        if state in ("paid", "refunded"):
            self._adopt(number)

    def _adopt(self, number: str) -> None:
        """Take over the payment that the kit paid a new order with."""
        sql = "SELECT * FROM payments WHERE order_no = $1"
        row = self.world.run(self.world.till.sql.fetchrow(sql, number))
        assert row is not None
        self.model.outcomes[row["provider"], row["payment_id"]] = PaymentOutcome(
            number, row["amount_minor"], row["currency"], row["state"], row["reason"]
        )

    @rule(data=st.data())
    def state(self, data: st.DataObject) -> None:
        """State a payment: of the order, of another one, again, or of no order at all."""
        payment = self._draw(data)
        assert self._told([self.world.till.payments.pay(payment)]) == [self.model.state(payment)]

    @rule(data=st.data(), count=st.integers(2, 5), cancels=st.booleans())
    def race(self, data: st.DataObject, count: int, cancels: bool) -> None:
        """State some at the same moment, perhaps beside a cancellation: some order explains it."""
        payments = [self._draw(data) for _ in range(count)]
        number = payments[0].order_no
        work = [self.world.till.payments.pay(payment) for payment in payments]
        cancelled = "skipped"
        if cancels and number in self.model.orders:
            *told, cancelled = self._told(
                [*work, self.world.till.orders.cancel(number, user_id="")]
            )
        else:
            told = self._told(work)
        # Who won is read back; that it is a legal history is what the model says.
        rows = self.world.run(self._rows())
        before = set(self.model.outcomes)
        first = [
            payment
            for payment in payments
            if (payment.provider, payment.payment_id) not in before
            and _is_row(payment, rows[payment.provider, payment.payment_id])
        ]
        first.sort(key=lambda payment: rows[payment.provider, payment.payment_id].reason or "")
        late = [p for p in first if rows[p.provider, p.payment_id].reason == "too_late"]
        for payment in first:
            if payment not in late:
                self.model.state(payment)
        if cancelled == "pays" and self.model.orders[number] in ("pending", "expired"):
            self.model.orders[number] = "cancelled"
        for payment in late:
            self.model.state(payment)
        assert told == [self.model.state(payment) for payment in payments]

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.orders)))
        self._told([self.world.till.orders.cancel(number, user_id="")])
        if self.model.orders[number] in ("pending", "expired"):
            self.model.orders[number] = "cancelled"

    @precondition(lambda self: self.model.orders)
    @rule(data=st.data(), restock=st.booleans())
    def refund(self, data: st.DataObject, restock: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.orders)))
        refund = self.world.till.orders.refund(number, refund_id=new_id("r"), restock=restock)
        self._told([refund])
        if self.model.orders[number] == "paid":
            self.model.refund(number)

    @precondition(lambda self: self.model.outcomes)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.outcomes)))
        outcome = self.model.outcomes[name]
        told = self._told([self.world.till.payments.settle(*name, refund_id=new_id("r"))])
        assert (told == ["pays"]) is (outcome.state == "to_refund")
        if outcome.state == "to_refund":
            self.model.outcomes[name] = replace(outcome, state="refunded")

    def _draw(self, data: st.DataObject) -> Payment:
        numbers = [*sorted(self.model.orders), UNKNOWN_ORDER]
        number = data.draw(st.sampled_from(numbers))
        price = self.model.price.get(number, PRICE.minor_units)
        payment = paid(
            number,
            provider=data.draw(st.sampled_from(["psp", "bank"])),
            payment_id=data.draw(st.sampled_from(self.ids)),
            amount_minor=price,
        )
        return replace(payment, **data.draw(st.sampled_from(CHANGES)))  # type: ignore[arg-type]

    def _told(self, work: Sequence[Awaitable[object]]) -> list[str]:
        """Return what each caller is told: it pays, it was used, or why it does not pay."""

        async def gather() -> list[object]:
            return await asyncio.gather(*work, return_exceptions=True)

        return [_told(result) for result in self.world.run(gather())]

    async def _rows(self) -> dict[Name, PaymentOutcome]:
        rows = await self.world.till.sql.fetch(
            "SELECT * FROM payments WHERE order_no = ANY ($1) OR payment_id = ANY ($2)",
            list(self.model.orders),
            self.ids,
        )
        return {
            (row["provider"], row["payment_id"]): PaymentOutcome(
                row["order_no"],
                row["amount_minor"],
                row["currency"],
                row["state"],
                row["reason"],
            )
            for row in rows
        }

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        rows = self.world.run(self._rows())
        assert rows == self.model.outcomes
        orders = self.world.run(self.world.till.orders.find(list(self.model.orders)))
        shown = {row["order_no"]: row["status"] for row in orders}
        states = {"expired": "pending"}
        assert shown == {
            number: states.get(state, state) for number, state in self.model.orders.items()
        }
        sums: Counter[str] = Counter()
        for outcome in rows.values():
            sums[outcome.state] += outcome.amount
        in_force = [number for number, state in self.model.orders.items() if state == "paid"]
        assert sums["applied"] == sum(self.model.price[number] for number in in_force)

    def teardown(self) -> None:
        till = self.world.till
        assert self.world.run(audit_sale(till.dsn, till.sku)).wrong is None


def _told(result: object) -> str:
    if not isinstance(result, BaseException):
        return "pays"
    assert isinstance(result, SeckillError), result
    return result.metadata.get("payment_reason", "used")


def _is_row(payment: Payment, outcome: PaymentOutcome) -> bool:
    stated = (payment.order_no, payment.amount_minor, payment.currency)
    return stated == (outcome.order_no, outcome.amount, outcome.currency)


@pytest.fixture
def world(database_dsn: str) -> Iterator[World]:
    """A sale on a database of the test's own."""
    running = World(database_dsn)
    yield running
    running.close()


@pytest.mark.slow
def test_any_sequence_of_payments_keeps_outcomes_and_sums(world: World) -> None:
    """Repeated, at once, late, for other orders: each payment keeps the outcome of the model."""

    class Machine(PaymentMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
