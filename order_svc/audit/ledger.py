"""Replays the stock ledger of one sale from nothing, and finds the first row that is wrong.

Plain computing: rows go in, facts or a `LedgerWrong` come out. `audit.py` reads the rows.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

# What may follow what for one order; "" is an order that the ledger has not named.
STEPS: Mapping[str, frozenset[str]] = {
    "": frozenset({"reserved", "rejected"}),
    "reserved": frozenset({"paid", "cancelled"}),
    "paid": frozenset({"refunded", "written_off"}),
    "cancelled": frozenset({"restored"}),
    "rejected": frozenset({"restored"}),
    "refunded": frozenset({"restored"}),
    "written_off": frozenset(),
    "restored": frozenset(),
}
# Movements that change how many units are out: sold, and not for sale again.
OUT = {"reserved": 1, "cancelled": -1, "refunded": -1}
# The status that an order must have after its last movement, restoring apart.
STATUSES = {
    "reserved": "pending",
    "paid": "paid",
    "cancelled": "cancelled",
    "rejected": "rejected",
    "refunded": "refunded",
    "written_off": "refunded",
}
RETURNING = frozenset({"cancelled", "rejected", "refunded"})


class Rule(Enum):
    """What an audit checks; the value is what people read."""

    LOADED_ONCE = "the ledger starts with the sale's one load"
    LEGAL_PATH = "every movement is a legal step of its order"
    SAME_UNITS = "each order moves the same units throughout"
    NEVER_OVERSOLD = "at no moment more units were out than loaded"
    ORDERS_AGREE = "the ledger ends as the orders stand"
    SALE_AGREES = "the ledger ends as the sale counts"
    APPEND_ONLY = "the database refuses to change or remove a row"
    PAYMENTS_AGREE = "payments and orders agree, and all that was taken is accounted for"


# Rules that each row is checked against.
ROW_RULES = frozenset({Rule.LOADED_ONCE, Rule.LEGAL_PATH, Rule.SAME_UNITS, Rule.NEVER_OVERSOLD})


@dataclass(frozen=True, slots=True)
class Movement:
    """One row of the ledger.

    Attributes:
        id: its number; later rows have higher ones.
        kind: as in the table's comment.
        order_no: None for a load, and for units added.
        quantity: units.
        at: when its transaction started, by the database's clock.
    """

    id: int
    kind: str
    order_no: str | None
    quantity: int
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as the orders table and the restore outbox have it.

    Attributes:
        order_no, status, quantity: its columns.
        returned: whether the restore outbox has a row for it.
        restored: whether that row is marked as restored.
    """

    order_no: str
    status: str
    quantity: int
    returned: bool
    restored: bool


class LedgerWrong(Exception):
    """A rule is broken."""

    def __init__(self, rule: Rule, explanation: str, movement: Movement | None = None) -> None:
        """`movement`: the first wrong row; None if what is wrong is not a row."""
        super().__init__(explanation)
        self.rule = rule
        self.explanation = explanation
        self.movement = movement


@dataclass(slots=True)
class _Position:
    """Where an order stands in the replay: its last movement except a restore, and that restore."""

    last: Movement
    restored: Movement | None = None


@dataclass(slots=True)
class Peak:
    """The first moment at which most units were out."""

    units: int = 0
    movement: Movement | None = None


@dataclass
class Replay:
    """What the rows taken so far add up to.

    Attributes:
        rows: how many of each kind.
        loaded: units put on sale so far.
        out: units sold and not for sale again.
        peak: when most were out.
    """

    rows: Counter[str] = field(default_factory=Counter)
    loaded: int = 0
    out: int = 0
    peak: Peak = field(default_factory=Peak)
    _orders: dict[str, _Position] = field(default_factory=dict)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def orders(self) -> int:
        """How many orders the rows name."""
        return len(self._orders)

    @property
    def digest(self) -> str:
        """SHA-256 of the rows, in hex: two audits of the same history have the same one."""
        return self._digest.hexdigest()

    def units(self) -> Counter[str]:
        """Count units by the kind of their order's last movement.

        "returning": those that were sold, are for sale again, and are not back in Redis yet.
        """
        units: Counter[str] = Counter()
        for position in self._orders.values():
            units[position.last.kind] += position.last.quantity
            if OUT.get(position.last.kind) == -1 and position.restored is None:
                units["returning"] += position.last.quantity
        return units

    def take(self, movement: Movement) -> None:
        """Replay the next row; raises LedgerWrong if it breaks a rule."""
        if movement.order_no is None:
            self._load(movement)
        else:
            self._move(movement, movement.order_no)
        self.rows[movement.kind] += 1
        row = f"{movement.id}|{movement.kind}|{movement.order_no or ''}|{movement.quantity}"
        self._digest.update(f"{row}|{movement.at.isoformat()}\n".encode())

    def _load(self, movement: Movement) -> None:
        if movement.kind not in {"loaded", "added"}:
            raise LedgerWrong(Rule.LEGAL_PATH, f"a row '{movement.kind}' names no order", movement)
        if movement.kind == "added":
            self._require_loaded(movement)
        elif self.rows:
            raise LedgerWrong(
                Rule.LOADED_ONCE,
                f"{movement.quantity} units are loaded after the first row: what was sold before"
                " cannot be compared with them",
                movement,
            )
        self.loaded += movement.quantity

    def _require_loaded(self, movement: Movement) -> None:
        if not self.rows:
            raise LedgerWrong(
                Rule.LOADED_ONCE, f"'{movement.kind}' comes before anything was loaded", movement
            )

    def _move(self, movement: Movement, order_no: str) -> None:
        self._require_loaded(movement)
        position = self._orders.get(order_no)
        self._check_step(movement, position)
        if position is None:
            self._orders[order_no] = _Position(movement)
        elif movement.kind == "restored":
            position.restored = movement
        else:
            position.last = movement
        self.out += OUT.get(movement.kind, 0) * movement.quantity
        if self.out > self.loaded:
            raise LedgerWrong(
                Rule.NEVER_OVERSOLD,
                f"this makes {self.out} units out, and only {self.loaded} were loaded",
                movement,
            )
        if self.out > self.peak.units:
            self.peak = Peak(self.out, movement)

    def _check_step(self, movement: Movement, position: _Position | None) -> None:
        before = position and (position.restored or position.last)
        allowed = STEPS[before.kind if before else ""]
        if movement.kind not in allowed:
            story = (
                f"after '{before.kind}' of row {before.id}" if before else "as its first movement"
            )
            legal = " or ".join(f"'{kind}'" for kind in sorted(allowed)) or "nothing"
            raise LedgerWrong(
                Rule.LEGAL_PATH,
                f"order {movement.order_no} has '{movement.kind}' {story}; legal is {legal}",
                movement,
            )
        if before and movement.quantity != before.quantity:
            raise LedgerWrong(
                Rule.SAME_UNITS,
                f"order {movement.order_no} moves {movement.quantity} units here, and moved"
                f" {before.quantity} in row {before.id}",
                movement,
            )

    def compare_order(self, order: OrderRow) -> None:
        """Compare the end of the ledger with one order; raises LedgerWrong."""
        position = self._orders.get(order.order_no)
        if position is None:
            raise LedgerWrong(Rule.ORDERS_AGREE, f"order {order.order_no} has no row in the ledger")
        kind, last = position.last.kind, position.restored or position.last
        expected = OrderRow(
            order_no=order.order_no,
            status=STATUSES[kind],
            quantity=position.last.quantity,
            returned=kind in RETURNING,
            restored=position.restored is not None,
        )
        if order != expected:
            raise LedgerWrong(
                Rule.ORDERS_AGREE,
                f"order {order.order_no} is {_describe(order)}; by the ledger it is"
                f" {_describe(expected)}",
                last,
            )

    def compare_count(self, orders: int) -> None:
        """Check that none is missing after so many orders were compared; raises LedgerWrong."""
        if orders != len(self._orders):
            raise LedgerWrong(
                Rule.ORDERS_AGREE,
                f"the ledger names {len(self._orders)} orders, and {orders} exist",
            )

    def compare_sale(self, *, total: int, sold: int) -> None:
        """Compare the end of the ledger with the sale's own row; raises LedgerWrong."""
        if not self.rows:
            raise LedgerWrong(Rule.LOADED_ONCE, "the ledger has no row of this sale")
        if (total, sold) != (self.loaded, self.out):
            raise LedgerWrong(
                Rule.SALE_AGREES,
                f"the sale counts {sold} sold of {total}; by the ledger {self.out} of"
                f" {self.loaded} are out",
            )


def _describe(order: OrderRow) -> str:
    returned = "restored" if order.restored else "to be restored" if order.returned else "kept"
    return f"{order.status}, {order.quantity} units, {returned}"
