"""What buyers saw of one sale: their attempts, and what became of their orders.

An attempt that was not answered is *unknown* if units may be held for it all the same, and
*refused* if the mesh said that it had no effect. The history also has what the test itself changed
in the stores, because some of that excuses what follows.
"""

from dataclasses import dataclass, field

import grpc

from seckill.client import Call, Outcome
from seckill.client.results import OUTCOME_OF_REASON
from seckill_cli.demo.buyer import Attempt
from tests.kits.waiting import Signal


def is_reserved(attempt: Attempt) -> bool:
    """Return whether the buyer was told that units are held for them."""
    return attempt.outcome is Outcome.RESERVED


def is_refused(attempt: Attempt) -> bool:
    """Return whether the attempt failed in a way that promises that it had no effect."""
    return attempt.failure is not None and not attempt.unknown


def reason_of(attempt: Attempt) -> str:
    """Return the reason with which the attempt failed; "" if it did not, or got none."""
    return attempt.failure.reason if attempt.failure is not None else ""


def result_of(attempt: Attempt) -> str:
    """Return the outcome, or the status with its reason, e.g. "UNAVAILABLE OVERLOADED"."""
    if attempt.outcome is not None:
        return attempt.outcome.name
    if attempt.failure is None:
        return "abandoned"
    return f"{attempt.failure.code.name} {attempt.failure.reason}".strip()


@dataclass
class Tampering:
    """What a test itself has changed in the stores of one sale.

    Attributes:
        forgotten: orders whose holds or outbox entries it took from Redis: their buyers may be
            told another number, and those that Kafka did not have are gone.
        rejecting: whether the database may have had to reject orders because of it.
        lost: Unix times between which the sale was lost: nothing may be sold then.
        undelayed_s: Unix time until which it took orders from the delay set: the sweep of the
            database finds those.
        poison: messages and outbox entries it wrote that are no orders.
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
        attempts: in the order in which they ended.
        codes: statuses that buyers got instead of answers, repeated calls included.
        paid: order number → payment id of payments that were confirmed.
        too_late: payment id → order number of payments refused with PAYMENT_TOO_LATE.
        mismatched: payment ids refused because the amount was wrong.
        cancelled: orders whose cancellation by their buyer was confirmed.
        refunded: orders whose refund was confirmed → whether their units were to come back.
        tampering: what the test itself changed in the stores.
        changed: notified of each note.
    """

    attempts: list[Attempt] = field(default_factory=list)
    codes: set[grpc.StatusCode] = field(default_factory=set)
    paid: dict[str, str] = field(default_factory=dict)
    too_late: dict[str, str] = field(default_factory=dict)
    mismatched: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    refunded: dict[str, bool] = field(default_factory=dict)
    tampering: Tampering = field(default_factory=Tampering)
    changed: Signal = field(default_factory=Signal, repr=False, compare=False)

    def note(self, attempt: Attempt) -> None:
        """Note an attempt that has ended; a buyer's `on_attempt`."""
        self.attempts.append(attempt)
        self.changed.notify()

    def note_call(self, call: Call) -> None:
        """Note the status of a call that failed; a buyer's `on_call`."""
        # "Sold out" and the like are outcomes, also when a gateway says them by status.
        if call.failure is not None and call.failure.reason not in OUTCOME_OF_REASON:
            self.codes.add(call.failure.code)
            self.changed.notify()

    async def until_promised(self, orders: int) -> None:
        """Wait until buyers were told of so many orders."""
        await self.changed.until(lambda: len(self.promised) >= orders)

    async def until_answered(self, attempts: int) -> None:
        """Wait until so many attempts were answered with an outcome."""
        await self.changed.until(lambda: self.answered >= attempts)

    async def until_refused(self) -> None:
        """Wait until a call has got a status instead of an answer."""
        await self.changed.until(lambda: self.codes)

    @property
    def promised(self) -> set[str]:
        """Order numbers that buyers were told are theirs."""
        return {attempt.order_no for attempt in self.attempts if is_reserved(attempt)}

    @property
    def answered(self) -> int:
        """How many attempts were answered with an outcome."""
        return sum(attempt.outcome is not None for attempt in self.attempts)
