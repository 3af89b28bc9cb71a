"""Checks that payments and orders agree, and that all that was taken is accounted for."""

from collections.abc import Sequence
from dataclasses import dataclass

from order_svc.audit.ledger import LedgerWrong, Rule
from order_svc.db.database import Row


@dataclass(frozen=True)
class Money:
    """What was paid for a sale's orders in one currency, in minor units.

    Attributes:
        currency: ISO 4217 code.
        taken: by providers.
        applied, to_refund, refunded: what became of it.
    """

    currency: str
    taken: int
    applied: int
    to_refund: int
    refunded: int


def account_payments(rows: Sequence[Row]) -> tuple[Money, ...]:
    """Return the accounts of the rows of audit_payments.sql; raises LedgerWrong."""
    if rows[0]["contradicted"] is not None:
        raise LedgerWrong(
            Rule.PAYMENTS_AGREE,
            f"order {rows[0]['contradicted']} and the payment that paid it contradict each other",
        )
    names = ("currency", "taken", "applied", "to_refund", "refunded")
    # The last row is the sum over all currencies, which makes a row if there is no payment at all.
    accounts = tuple(Money(*(row[name] for name in names)) for row in rows[:-1])
    for money in accounts:
        left = money.taken - money.applied - money.to_refund - money.refunded
        if left:
            raise LedgerWrong(
                Rule.PAYMENTS_AGREE,
                f"of {money.taken} {money.currency} taken, {left} are neither applied nor to be"
                " refunded nor refunded",
            )
    return accounts
