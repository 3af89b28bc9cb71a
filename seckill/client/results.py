"""What the client returns of a purchase, and conditions to wait for."""

from dataclasses import dataclass
from enum import StrEnum

from seckill.v1 import inventory_pb2, order_pb2


class Outcome(StrEnum):
    """What became of an attempt; all of these are answers, not failures."""

    RESERVED = "reserved"
    SOLD_OUT = "sold_out"
    ALREADY_PURCHASED = "already_purchased"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    PAUSED = "paused"
    LIMIT_EXCEEDED = "limit_exceeded"
    # An outcome that this release of the client does not know.
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """The answer to an attempt.

    Attributes:
        outcome: what became of it.
        order_no: the order's number with RESERVED and ALREADY_PURCHASED; else empty.
        request_id: names the attempt; the same id gets the same answer.
        sku, quantity: what was asked for.
    """

    outcome: Outcome
    order_no: str
    request_id: str
    sku: str
    quantity: int

    @property
    def reserved(self) -> bool:
        """Whether units are held for the buyer."""
        return self.outcome is Outcome.RESERVED


@dataclass(frozen=True)
class AgedOrder:
    """An order as it is told.

    Attributes:
        order: the order.
        age_s: greatest possible age of what is told, in seconds, when the gateway answered; 0 if no
            replica of Redis was asked.
    """

    order: order_pb2.Order
    age_s: float


_PREFIX = "PURCHASE_OUTCOME_"
_OUTCOMES: dict[int, Outcome] = {
    number: Outcome(name.removeprefix(_PREFIX).lower())
    for name, number in inventory_pb2.PurchaseOutcome.items()
    if name.removeprefix(_PREFIX) in Outcome.__members__
}
# The same as a status: how a purchase is answered that names its sku in metadata.
OUTCOME_OF_REASON = {
    outcome.name: outcome
    for outcome in (Outcome.SOLD_OUT, Outcome.NOT_STARTED, Outcome.ENDED, Outcome.PAUSED)
}


def outcome_of(number: int) -> Outcome:
    """Return the outcome that a reply carries."""
    return _OUTCOMES.get(number, Outcome.OTHER)


# No further change can follow.
FINAL_STATES = frozenset(
    {
        order_pb2.ORDER_STATE_CANCELLED,
        order_pb2.ORDER_STATE_REJECTED,
        order_pb2.ORDER_STATE_REFUNDED,
    }
)


def visible(_order: order_pb2.Order) -> bool:
    """Hold of each order that can be read: to wait until a reservation has become an order."""
    return True


def settled(order: order_pb2.Order) -> bool:
    """Hold of an order that no longer awaits its payment: paid, cancelled, rejected, refunded."""
    return order.state != order_pb2.ORDER_STATE_PENDING
