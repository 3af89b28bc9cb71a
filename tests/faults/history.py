"""What clients saw: one note an attempt, made before it is sent and completed when it ends.

A timeout or a lost reply is *unknown*: the attempt may have taken effect or not, and either is
legal. A refusal is *failed*: it must have had no effect. Beside it stands what a test has done to
the stores with its own hands, where that excuses something.
"""

import time
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
        code, reason, details: the status, where it is not.
        began_s, ended_s: monotonic times; the latter is 0.0 while it is open.
    """

    user_id: str
    request_id: str
    quantity: int = 1
    end: End = End.OPEN
    outcome: Outcome.ValueType = inventory_pb2.PURCHASE_OUTCOME_UNSPECIFIED
    order_no: str = ""
    code: grpc.StatusCode | None = None
    reason: str | None = None
    details: str = ""
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float = 0.0

    @property
    def reserved(self) -> bool:
        """Whether the buyer was told that he has it."""
        return self.end is End.OK and self.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED

    @property
    def name(self) -> str:
        """What it came to, in a word or two: the outcome, or the status with its reason."""
        if self.end is End.OK:
            return Outcome.Name(self.outcome).removeprefix("PURCHASE_OUTCOME_")
        if self.code is None:
            return str(self.end)
        return f"{self.code.name} {self.reason or ''}".strip()

    def answered(self, outcome: Outcome.ValueType, order_no: str) -> None:
        """The stage has decided."""
        self.end, self.outcome, self.order_no = End.OK, outcome, order_no
        self.ended_s = time.monotonic()

    def refused(self, error: grpc.aio.AioRpcError) -> None:
        """A status came instead: whether it promises no effect is in its reason."""
        self.code, self.reason = error.code(), reason_of(error)
        self.details = error.details() or ""
        self.end = End.FAILED if self.reason in _WITHOUT_EFFECT else End.UNKNOWN
        self.ended_s = time.monotonic()


@dataclass
class Done:
    """What a test has done to the stores of one sale.

    Attributes:
        forgotten: orders whose holds or outbox entries it took from Redis: their buyers may be
            told another number, and those that Kafka did not have are gone.
        rejecting: whether the database may have had to reject orders because of it.
        lost: Unix times between which the sale was lost: nothing may be sold then.
        undelayed_s: Unix time until which it took orders from the delay set: the sweep of the
            database finds those.
        poison: messages and outbox entries it made that are no orders.
        poison_gone: outbox entries of that kind that it took away again, perhaps too late.
    """

    forgotten: set[str] = field(default_factory=set)
    rejecting: bool = True
    lost: list[tuple[float, float]] = field(default_factory=list)
    undelayed_s: float = 0.0
    poison: int = 0
    poison_gone: int = 0


@dataclass
class History:
    """All notes about one sale.

    Attributes:
        attempts: in the order in which they were begun.
        paid: order number → payment id of payments that were confirmed.
        too_late: payment id → order number of payments refused with PAYMENT_TOO_LATE.
        mismatched: payment ids refused because the amount was wrong.
        cancelled: orders whose cancellation by their buyer was confirmed.
        refunded: orders whose refund was confirmed → whether their units were to come back.
        done: what the test itself did to the stores.
    """

    attempts: list[Attempt] = field(default_factory=list)
    paid: dict[str, str] = field(default_factory=dict)
    too_late: dict[str, str] = field(default_factory=dict)
    mismatched: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    refunded: dict[str, bool] = field(default_factory=dict)
    done: Done = field(default_factory=Done)

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
