"""What clients saw: one note an attempt, made before it is sent and completed when it ends.

A timeout or a lost reply is *unknown*: the attempt may have taken effect or not, and either is
legal. A refusal is *failed*: it must have had no effect.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import grpc

from seckill.errors import reason_name, reason_of
from seckill.v1 import errors_pb2, inventory_pb2

Outcome = inventory_pb2.PurchaseOutcome

# Reasons that promise that nothing was written.
_WITHOUT_EFFECT = frozenset(
    reason_name(reason)
    for reason in (
        errors_pb2.ERROR_REASON_DEPENDENCY_UNAVAILABLE,
        errors_pb2.ERROR_REASON_OVERLOADED,
        errors_pb2.ERROR_REASON_RATE_LIMITED,
        errors_pb2.ERROR_REASON_SALE_NOT_LOADED,
        errors_pb2.ERROR_REASON_SALE_NOT_FOUND,
    )
)


class End(StrEnum):
    """How an attempt ended."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(kw_only=True)
class Attempt:
    """One press of the button.

    Attributes:
        outcome, order_no: what was answered, where `end` is OK.
        code, reason: the status, where it is not.
    """

    user_id: str
    request_id: str
    quantity: int = 1
    end: End = End.OPEN
    outcome: Outcome.ValueType = inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
    order_no: str = ""
    code: grpc.StatusCode | None = None
    reason: str | None = None

    @property
    def reserved(self) -> bool:
        """Whether the buyer was told that he has it."""
        return self.end is End.OK and self.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED

    def answered(self, outcome: Outcome.ValueType, order_no: str) -> None:
        """The stage has decided."""
        self.end, self.outcome, self.order_no = End.OK, outcome, order_no

    def refused(self, error: grpc.aio.AioRpcError) -> None:
        """A status came instead: whether it promises no effect is in its reason."""
        self.code, self.reason = error.code(), reason_of(error)
        self.end = End.FAILED if self.reason in _WITHOUT_EFFECT else End.UNKNOWN


@dataclass
class History:
    """All notes about one sale.

    Attributes:
        attempts: in the order in which they were begun.
        paid: order number → payment id of payments that were confirmed.
        too_late: payment id → order number of payments refused with PAYMENT_TOO_LATE.
    """

    attempts: list[Attempt] = field(default_factory=list)
    paid: dict[str, str] = field(default_factory=dict)
    too_late: dict[str, str] = field(default_factory=dict)

    def invoke(self, user_id: str, request_id: str, *, quantity: int = 1) -> Attempt:
        """Note an attempt that is about to be sent."""
        attempt = Attempt(user_id=user_id, request_id=request_id, quantity=quantity)
        self.attempts.append(attempt)
        return attempt

    @property
    def told(self) -> set[str]:
        """Order numbers that buyers were told are theirs."""
        return {attempt.order_no for attempt in self.attempts if attempt.reserved}

    @property
    def codes(self) -> set[grpc.StatusCode]:
        """Statuses that came instead of answers."""
        return {attempt.code for attempt in self.attempts if attempt.code is not None}
