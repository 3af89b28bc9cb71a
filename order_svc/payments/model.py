"""Payments as statements, as rows and as messages."""

from collections.abc import Mapping
from dataclasses import dataclass

from order_svc.db.database import Row
from order_svc.orders.model import timestamp
from seckill.v1 import payment_pb2, sale_pb2
from seckill.validation import CURRENCY, MINOR_UNITS_MAX, REQUEST_ID_MAX, Violations

# What buyers state at the gateway: no money moves.
SANDBOX = "sandbox"
# Recorded by a release that knew no providers.
UNKNOWN = "unknown"
PROVIDER = r"[a-z0-9][a-z0-9-]{0,39}"

STATES: Mapping[str, payment_pb2.PaymentState.ValueType] = {
    "applied": payment_pb2.PAYMENT_STATE_APPLIED,
    "to_refund": payment_pb2.PAYMENT_STATE_TO_REFUND,
    "refunded": payment_pb2.PAYMENT_STATE_REFUNDED,
}
STATE_NAMES: Mapping[payment_pb2.PaymentState.ValueType, str] = {
    state: name for name, state in STATES.items()
}
REASONS: Mapping[str, payment_pb2.PaymentReason.ValueType] = {
    name.removeprefix("PAYMENT_REASON_").lower(): reason
    for name, reason in payment_pb2.PaymentReason.items()
}


@dataclass(frozen=True, kw_only=True)
class Payment:
    """A payment as somebody who may state it has stated it.

    Attributes:
        order_no: of the order.
        provider: who took it.
        payment_id: the provider's name of it.
        amount_minor: in the currency's minor units.
        currency: ISO 4217 code.
        user_id: the order must be this buyer's; "" for any.
    """

    order_no: str
    provider: str
    payment_id: str
    amount_minor: int
    currency: str
    user_id: str = ""

    def check(self, *, any_order: bool = False) -> None:
        """Raise InvalidField naming each field that no payment can have.

        `any_order`: also what is no order number may stand for the order.
        """
        violations = Violations()
        if any_order:
            violations.printable("order_no", self.order_no, REQUEST_ID_MAX)
        else:
            violations.order_no("order_no", self.order_no)
        violations.printable("payment_id", self.payment_id, REQUEST_ID_MAX)
        # Not by `money`: what providers send need not fit into a message.
        if CURRENCY.fullmatch(self.currency) is None:
            violations.add("amount.currency", "must be an ISO 4217 code of three capital letters")
        violations.between("amount.minor_units", self.amount_minor, 0, MINOR_UNITS_MAX)
        if self.user_id:
            violations.user_id("user_id", self.user_id)
        violations.check()


def reason_of(name: str | None) -> payment_pb2.PaymentReason.ValueType:
    """Return why a payment did not pay its order; UNSPECIFIED for None: it did."""
    return payment_pb2.PAYMENT_REASON_UNSPECIFIED if name is None else REASONS[name]


def payment_of(row: Row) -> payment_pb2.Payment:
    """Return the Payment of a row of `payments`."""
    return payment_pb2.Payment(
        provider=row["provider"],
        payment_id=row["payment_id"],
        order_no=row["order_no"],
        amount=sale_pb2.Money(currency=row["currency"], minor_units=row["amount_minor"]),
        state=STATES[row["state"]],
        reason=reason_of(row["reason"]),
        receive_time=timestamp(row["received_at"]),
        refund_time=timestamp(row["refunded_at"]),
        refund_id=row["refund_id"] or "",
    )
