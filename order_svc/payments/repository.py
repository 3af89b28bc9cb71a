"""Payments in the database: recorded once, with one outcome; those that are owed back, settled."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from order_svc import metrics
from order_svc.db.database import Database, Row
from order_svc.orders.repository import Change
from order_svc.payments.model import Payment
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
from seckill.runtime import request_ids

# When to state a payment again whose order may still be on its way to the database.
ARRIVAL_RETRY_S = 0.2
# What a caller is told of a payment that did not pay its order, by the reason.
_REFUSALS: Mapping[str, tuple[type[SeckillError], str | None]] = {
    "too_late": (PaymentTooLate, None),
    "order_rejected": (PaymentTooLate, "the order was rejected"),
    "order_refunded": (OrderStateConflict, "the order was refunded"),
    "already_paid": (OrderStateConflict, "another payment has paid this order"),
    "wrong_amount": (PaymentMismatch, "the amount is not the order's"),
    "wrong_currency": (PaymentMismatch, "the currency is not the order's"),
    "unknown_order": (OrderNotFound, None),
}


@dataclass(frozen=True)
class PaymentOutcome:
    """What became of a payment.

    Attributes:
        payment: row of `payments`.
        order: row of find_orders.sql; None if the order is unknown.
        first: whether this very call recorded the payment.
    """

    payment: Row
    order: Row | None
    first: bool

    def change(self) -> Change:
        """Return the order that the payment paid, now or before; raise why it paid none."""
        reason = self.payment["reason"]
        if reason is None:
            if self.order is None:
                # The order was removed with its sale.
                raise OrderNotFound
            return Change(self.order, changed=self.first)
        refusal, message = _REFUSALS[reason]
        state = self.payment["state"]
        raise refusal(message, metadata={"payment_state": state, "payment_reason": reason})


class PaymentRepository:
    """The table of payments. Raises DependencyUnavailable if the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, payment: Payment, *, order_may_come: bool = False) -> PaymentOutcome:
        """Put a payment on record; it pays its order if that awaits exactly this payment.

        Args:
            payment: what was stated.
            order_may_come: whether an unknown order may still be on its way to the database.

        Returns:
            What became of the payment, by this call or by an earlier one.

        Raises:
            PaymentUsed: it was stated before for another order, or of another amount.
            NotAllowed: the order is another buyer's; nothing is on record.
            OrderNotFound: the order may still come; nothing is on record.
        """
        recorded = await self._database.fetch(
            "payments/record_payment",
            payment.provider,
            payment.payment_id,
            payment.order_no,
            payment.amount_minor,
            payment.currency,
            payment.user_id,
            order_may_come,
            request_ids.current(),
        )
        for row in recorded:
            _count(row)
        # The payment first: an order that is read after it is there if the payment has paid it,
        # even if both have come since.
        found = await self._database.fetch(
            "payments/find_payment", payment.provider, payment.payment_id
        )
        orders = await self._database.fetch("orders/find_orders", [payment.order_no])
        order = orders[0] if orders else None
        if order is not None and payment.user_id not in ("", order["user_id"]):
            raise NotAllowed
        if not found:
            raise OrderNotFound("the order may still be on its way", retry_after_s=ARRIVAL_RETRY_S)
        _check_same(payment, found[0])
        return PaymentOutcome(found[0], order, first=bool(recorded))

    async def pay(self, payment: Payment, *, order_may_come: bool = False) -> Change:
        """Record a payment, and return the order that it paid.

        Raises:
            What `record` raises.
            PaymentTooLate, OrderStateConflict, PaymentMismatch, OrderNotFound: the payment is on
                record as to be refunded.
        """
        return (await self.record(payment, order_may_come=order_may_come)).change()

    async def page(self, *, state: str, order_no: str, after: int, limit: int) -> list[Row]:
        """Return up to `limit` payments numbered above `after`; "" does not filter."""
        return await self._database.fetch("payments/list_payments", state, order_no, after, limit)

    async def settle(self, provider: str, payment_id: str, *, refund_id: str) -> Row:
        """Record that a payment was paid back; return it.

        Raises:
            PaymentNotFound: there is no such payment.
            PaymentStateConflict: it has paid an order, another refund paid it back, or this one
                paid back another payment.
        """
        try:
            settled = await self._database.fetch(
                "payments/settle_payment", provider, payment_id, refund_id
            )
        except asyncpg.UniqueViolationError as error:
            raise PaymentStateConflict("this refund has paid back another payment") from error
        for row in settled:
            _count(row)
            return row
        rows = await self._database.fetch("payments/find_payment", provider, payment_id)
        if not rows or rows[0]["provider"] != provider:
            raise PaymentNotFound
        payment = rows[0]
        if payment["state"] == "applied":
            raise PaymentStateConflict(
                f"the payment has paid order {payment['order_no']}: refund the order",
                metadata={"order_no": payment["order_no"]},
            )
        if payment["refund_id"] != refund_id:
            raise PaymentStateConflict("another refund has paid this payment back")
        return payment


def _count(row: Row) -> None:
    metrics.PAYMENTS_TOTAL.labels(row["state"], row["reason"] or "none").inc()


def _check_same(payment: Payment, known: Row) -> None:
    """Raise PaymentUsed if the payment on record is not the one that is stated."""
    if known["order_no"] != payment.order_no:
        outcome = "has paid" if known["reason"] is None else "is to be refunded: it was stated for"
        raise PaymentUsed(
            f"this payment {outcome} order {known['order_no']}",
            metadata={"order_no": known["order_no"], "payment_state": known["state"]},
        )
    if (known["amount_minor"], known["currency"]) != (payment.amount_minor, payment.currency):
        raise PaymentUsed(
            f"this payment is on record with {known['amount_minor']} {known['currency']}",
            metadata={"order_no": known["order_no"], "payment_state": known["state"]},
        )
