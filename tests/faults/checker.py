"""The one checker of all fault tests: what stores and clients say must fit together.

Letters as in docs/architecture.md: O never oversold, L nothing accepted is lost, U one live order
a buyer, C every unit accounted for, V nothing is left under way. O and U must hold at every
moment; L, C and V once everything has settled.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tests.faults.history import End, History

LIVE = frozenset({"pending", "paid"})
ENDED = frozenset({"cancelled", "rejected"})
# Kinds of ledger rows by the state of the order; "restored" follows once its units are back.
_LEDGER = {
    "pending": ["reserved"],
    "paid": ["reserved", "paid"],
    "cancelled": ["reserved", "cancelled"],
    "rejected": ["rejected"],
    "refunded": ["reserved", "paid", "refunded"],
}
# What a ledger row adds to the units of live orders.
_LIVE_CHANGE = {"reserved": 1, "cancelled": -1, "refunded": -1}


@dataclass(frozen=True, kw_only=True)
class OrderRow:
    """A row of `orders`, and whether its units were put back."""

    order_no: str
    user_id: str
    request_id: str
    status: str
    quantity: int = 1
    restored: bool = False
    payment_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A field of the users hash; `live` is False where it was released."""

    order_no: str
    quantity: int = 1
    live: bool = True


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the stores hold for one sale, read without asking any stage.

    Attributes:
        total, sold: units, of the row in `sales`.
        orders: all rows of the sale.
        ledger: (order number, kind, units), in the order of writing.
        late_payments: payment ids on record as too late.
        remaining: units on sale in Redis; None where the key is missing.
        holds: user → hold.
        backlog: entries in the outbox; unacknowledged: those that a relay has read.
        delayed: order numbers in the delay set.
        lag: messages that the consumers have not committed.
        dead_letters: in the dead-letter topic.
    """

    total: int
    sold: int
    orders: tuple[OrderRow, ...]
    ledger: tuple[tuple[str, str, int], ...]
    late_payments: frozenset[str]
    remaining: int | None
    holds: dict[str, Hold]
    backlog: int
    unacknowledged: int
    delayed: frozenset[str]
    lag: int
    dead_letters: int


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, and why, in a sentence."""

    invariant: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


def check(
    facts: Facts, history: History, *, forgotten: Collection[str] = ()
) -> tuple[Violation, ...]:
    """Compare the stores with each other and with what clients saw.

    Args:
        facts: what the stores hold.
        history: what the clients noted.
        forgotten: orders that the test itself has made Redis forget.

    Returns:
        Every violation; the checks do not build on each other.
    """
    return (
        *(Violation("O", text) for text in _oversold(facts)),
        *(Violation("U", text) for text in _doubled(facts, history)),
        *(Violation("L", text) for text in _lost(facts, history)),
        *(Violation("C", text) for text in _unaccounted(facts, frozenset(forgotten))),
        *(Violation("V", text) for text in _unsettled(facts, frozenset(forgotten))),
    )


def _units(facts: Facts) -> int:
    return sum(row.quantity for row in facts.orders if row.status in LIVE)


def _oversold(facts: Facts) -> Iterator[str]:
    live = _units(facts)
    if live > facts.total:
        yield f"{live} units are in live orders, and only {facts.total} were for sale"
    if facts.sold != live:
        yield f"sales.sold says {facts.sold}, the live orders have {live} units"
    level = 0
    for order_no, kind, quantity in facts.ledger:
        level += _LIVE_CHANGE.get(kind, 0) * quantity
        if not 0 <= level <= facts.total:
            yield f"{level} of {facts.total} units were live after {kind} of {order_no}"
            break


def _doubled(facts: Facts, history: History) -> Iterator[str]:
    live = Counter(row.user_id for row in facts.orders if row.status in LIVE)
    for user_id, count in live.items():
        if count > 1:
            yield f"{user_id} has {count} live orders"
    numbers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for attempt in history.attempts:
        if attempt.reserved:
            numbers[attempt.user_id, attempt.request_id].add(attempt.order_no)
    for (user_id, request_id), told in numbers.items():
        if len(told) > 1:
            yield f"request {request_id} of {user_id} was answered with {sorted(told)}"


def _lost(facts: Facts, history: History) -> Iterator[str]:
    rows = {row.order_no: row for row in facts.orders}
    for attempt in history.attempts:
        if not attempt.reserved:
            continue
        row = rows.get(attempt.order_no)
        if row is None:
            yield f"{attempt.user_id} was told {attempt.order_no}, which no row has"
        elif (row.user_id, row.quantity) != (attempt.user_id, attempt.quantity):
            yield f"{attempt.order_no} is not what {attempt.user_id} was promised"
    yield from _effects_of_nothing(facts, history)
    for order_no, payment_id in history.paid.items():
        row = rows.get(order_no)
        if row is None or row.payment_id != payment_id:
            yield f"the confirmed payment {payment_id} of {order_no} is not on its row"
    payments = {row.payment_id for row in facts.orders}
    for payment_id, order_no in history.too_late.items():
        if payment_id not in facts.late_payments:
            yield f"the late payment {payment_id} of {order_no} is not on record"
        if payment_id in payments:
            yield f"the payment {payment_id} was refused as too late and paid {order_no}"


def _effects_of_nothing(facts: Facts, history: History) -> Iterator[str]:
    """Rows that nobody asked for, or that were refused each time somebody asked."""
    ends: dict[tuple[str, str], set[End]] = defaultdict(set)
    for attempt in history.attempts:
        ends[attempt.user_id, attempt.request_id].add(attempt.end)
    for row in facts.orders:
        known = ends.get((row.user_id, row.request_id))
        if known is None:
            yield f"nobody asked for {row.order_no} of {row.user_id}"
        elif known == {End.FAILED}:
            yield f"{row.user_id} was refused without effect, and has {row.order_no}"


def _unaccounted(facts: Facts, forgotten: frozenset[str]) -> Iterator[str]:
    live = {row.order_no: row.quantity for row in facts.orders if row.status in LIVE}
    held = {hold.order_no: hold.quantity for hold in facts.holds.values() if hold.live}
    if facts.remaining is None:
        yield "the stock key is missing"
    else:
        drift = facts.remaining + sum(live.values()) - facts.total
        if drift:
            yield f"{abs(drift)} units too {'many' if drift > 0 else 'few'}"
    for order_no in sorted(live.keys() - held.keys() - forgotten):
        yield f"live order {order_no} has no hold in Redis"
    for order_no in sorted(held.keys() - live.keys()):
        yield f"the hold of {order_no} has no live order"
    for order_no in sorted(order_no for order_no in live.keys() & held.keys()):
        if live[order_no] != held[order_no]:
            yield f"{order_no} holds {held[order_no]} units and has ordered {live[order_no]}"
    for row in facts.orders:
        if row.status in ENDED and not row.restored:
            yield f"the units of the {row.status} order {row.order_no} never came back"
    yield from _ledger_gaps(facts)


def _ledger_gaps(facts: Facts) -> Iterator[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for order_no, kind, _ in facts.ledger:
        if kind != "loaded":
            kinds[order_no].append(kind)
    for row in facts.orders:
        expected = _LEDGER[row.status] + (["restored"] if row.restored else [])
        found = kinds.pop(row.order_no, [])
        if sorted(found) != sorted(expected):
            yield f"the ledger has {found} for the {row.status} order {row.order_no}"
    for order_no, found in kinds.items():
        yield f"the ledger has {found} for {order_no}, which no row has"


def _unsettled(facts: Facts, forgotten: frozenset[str]) -> Iterator[str]:
    if facts.backlog:
        yield f"{facts.backlog} reservations are not in Kafka yet"
    if facts.unacknowledged:
        yield f"{facts.unacknowledged} outbox entries were read and never acknowledged"
    if facts.lag:
        yield f"{facts.lag} messages are not consumed"
    states = {row.order_no: row.status for row in facts.orders}
    for order_no, status in states.items():
        if status == "pending" and order_no not in facts.delayed | forgotten:
            yield f"pending order {order_no} is not in the delay set"
        if status in ENDED and order_no in facts.delayed:
            yield f"{status} order {order_no} is still in the delay set"
