"""The one checker of all fault tests: what stores hold and buyers saw must fit together.

Letters as in docs/architecture.md: O never oversold, L nothing accepted is lost, U one live order
a buyer, C every unit accounted for, V nothing is left under way. O and U must hold at every
moment; L, C and V once everything has settled.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from seckill.order_no import made_at_s
from tests.kits.faults import promises
from tests.kits.faults.facts import LIVE, DatabaseFacts, Facts
from tests.kits.faults.history import History

# Kinds of ledger rows by the state of the order; "restored" follows once its units are back.
_LEDGER = {
    "pending": ["reserved"],
    "paid": ["reserved", "paid"],
    "cancelled": ["reserved", "cancelled"],
    "rejected": ["rejected"],
    "refunded": ["reserved", "paid", "refunded"],
}
_WRITTEN_OFF = ["reserved", "paid", "written_off"]
# What a ledger row adds to the units that are not for sale.
_LIVE_CHANGE = {"reserved": 1, "cancelled": -1, "refunded": -1}
# Kinds of events by the state of the order.
_EVENTS = {
    "pending": {"created"},
    "paid": {"created", "paid"},
    "cancelled": {"created", "cancelled"},
    "rejected": {"rejected"},
    "refunded": {"created", "paid", "refunded"},
}


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold, by its letter, and a sentence that says why."""

    invariant: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


def check(
    facts: Facts, history: History, *, forgotten: Collection[str] = ()
) -> tuple[Violation, ...]:
    """Compare the stores with each other and with what buyers saw.

    Args:
        facts: what the stores hold.
        history: what the buyers noted.
        forgotten: orders whose holds the test took from Redis, and which were not rebuilt.

    Returns:
        Every violation; the checks do not build on each other.
    """
    return (
        *check_database(facts),
        *(Violation("O", text) for text in promises.sold_while_lost(history)),
        *(Violation("U", text) for text in promises.answered_twice(history)),
        *(Violation("L", text) for text in promises.lost(facts, history)),
        *(Violation("L", text) for text in _untold(facts, history)),
        *(Violation("C", text) for text in _unaccounted(facts, frozenset(forgotten))),
        *(Violation("V", text) for text in _unsettled(facts)),
        *(Violation("V", text) for text in _undelayed(facts, history, frozenset(forgotten))),
    )


def check_database(rows: DatabaseFacts) -> tuple[Violation, ...]:
    """Check what must hold in the database at every moment."""
    return (
        *(Violation("O", text) for text in _oversold(rows)),
        *(Violation("U", text) for text in _doubled(rows)),
    )


def _oversold(facts: DatabaseFacts) -> Iterator[str]:
    live = facts.units_held
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


def _doubled(facts: DatabaseFacts) -> Iterator[str]:
    live = Counter(row.user_id for row in facts.orders if row.status in LIVE)
    for user_id, count in live.items():
        if count > 1:
            yield f"{user_id} has {count} live orders"


def _untold(facts: Facts, history: History) -> Iterator[str]:
    """Yield dead letters and events that are missing, or should not be there."""
    poison = history.tampering.poison
    if facts.dead_letters < poison:
        yield f"{poison - facts.dead_letters} of {poison} poisoned messages are no dead letters"
    elif facts.dead_letters > poison + history.tampering.poison_gone:
        yield f"{facts.dead_letters} dead letters, and {poison} messages were poisoned"
    if facts.events is None:
        return
    expected = {(row.order_no, kind) for row in facts.orders for kind in _EVENTS[row.status]}
    for order_no, kind in sorted(expected - facts.events):
        yield f"no event says that {order_no} was {kind}"
    for order_no, kind in sorted(facts.events - expected):
        if kind not in ("payment_too_late", "payment_to_refund"):
            yield f"an event says that {order_no} was {kind}, and it was not"


def _unaccounted(facts: Facts, forgotten: frozenset[str]) -> Iterator[str]:
    live = {row.order_no: row.quantity for row in facts.orders if row.holds_units}
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
        if not row.holds_units and not row.restored:
            yield f"the units of the {row.status} order {row.order_no} never came back"
    yield from _ledger_gaps(facts)


def _ledger_gaps(facts: Facts) -> Iterator[str]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for order_no, kind, _ in facts.ledger:
        if kind != "loaded":
            kinds[order_no].append(kind)
    for row in facts.orders:
        written_off = row.status == "refunded" and row.holds_units
        expected = _WRITTEN_OFF if written_off else _LEDGER[row.status]
        expected = expected + (["restored"] if row.restored else [])
        found = kinds.pop(row.order_no, [])
        if sorted(found) != sorted(expected):
            yield f"the ledger has {found} for the {row.status} order {row.order_no}"
    for order_no, found in kinds.items():
        yield f"the ledger has {found} for {order_no}, which no row has"


def _undelayed(facts: Facts, history: History, forgotten: frozenset[str]) -> Iterator[str]:
    for row in facts.orders:
        missed = made_at_s(row.order_no) > history.tampering.undelayed_s
        if missed and row.status == "pending" and row.order_no not in facts.delayed | forgotten:
            yield f"pending order {row.order_no} is not in the delay set"
        if not row.holds_units and row.order_no in facts.delayed:
            yield f"{row.status} order {row.order_no} is still in the delay set"


def _unsettled(facts: Facts) -> Iterator[str]:
    if facts.backlog:
        yield f"{facts.backlog} reservations are not in Kafka yet"
    if facts.unacknowledged:
        yield f"{facts.unacknowledged} outbox entries were read and never acknowledged"
    if facts.lag:
        yield f"{facts.lag} messages are not consumed"
    for order_no in sorted(facts.overdue):
        yield f"{order_no} is pending, long after its time was over"
    for row in facts.orders if facts.shown is not None else ():
        shown = (facts.shown or {}).get(row.order_no, "missing")
        if shown != row.status:
            yield f"{row.order_no} is {row.status}, and its buyer is shown that it is {shown}"
