"""What the stores hold for one sale, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass

LIVE = frozenset({"pending", "paid"})


@dataclass(frozen=True, kw_only=True)
class OrderRow:
    """A row of `orders`.

    Attributes:
        returned: whether its units are to come back: it has a row in the restore outbox.
        restored: whether they have come back.
    """

    order_no: str
    user_id: str
    request_id: str
    status: str
    quantity: int = 1
    returned: bool = False
    restored: bool = False
    payment_id: str | None = None

    @property
    def holds_units(self) -> bool:
        """Whether its units are not for sale: the order is live, or they were written off."""
        return self.status in LIVE or (self.status == "refunded" and not self.returned)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A field of the users hash; `live` is False if the hold was released."""

    order_no: str
    quantity: int = 1
    live: bool = True


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """What the database holds for one sale at one moment.

    Attributes:
        total, sold: units, by the row in `sales`.
        orders: all rows of the sale.
        ledger: (order number, kind, units), in the order of writing.
        owed_payments: payment ids on record as to be refunded.
    """

    total: int
    sold: int
    orders: tuple[OrderRow, ...]
    ledger: tuple[tuple[str, str, int], ...]
    owed_payments: frozenset[str]

    @property
    def units_held(self) -> int:
        """Units that are not for sale."""
        return sum(row.quantity for row in self.orders if row.holds_units)


@dataclass(frozen=True, kw_only=True)
class Facts(DatabaseFacts):
    """What all stores hold for one sale, read without asking any service.

    Attributes:
        remaining: units on sale in Redis; None if the key is missing.
        holds: user id → hold.
        backlog: entries in the outbox; unacknowledged: those that a relay has read.
        delayed: order numbers in the delay set.
        lag: messages that the consumers have not committed.
        dead_letters: in the dead-letter topic, each once however often it was written.
        overdue: pending orders that should have expired long ago.
        events: (order number, kind) of the order events in Kafka; None if they were not read.
        shown: order number → state that callers are shown; None if it was not read.
    """

    remaining: int | None
    holds: Mapping[str, Hold]
    backlog: int
    unacknowledged: int
    delayed: frozenset[str]
    lag: int
    dead_letters: int
    overdue: frozenset[str] = frozenset()
    events: frozenset[tuple[str, str]] | None = None
    shown: Mapping[str, str] | None = None
