"""Compares the holds of a sale with its orders, by identity. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from rollback_svc.books import Holds
from seckill.order_no import made_at_s
from seckill.v1 import inventory_pb2, order_pb2, rollback_pb2
from seckill.v1.rollback_pb2 import ReconcileFindingKind as Kind

# Holds that one repair takes.
REPAIR_MAX = 1_024

ORDER_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING
HOLD_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING
HOLD_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED
STOCK = rollback_pb2.RECONCILE_FINDING_KIND_STOCK
EXPLANATIONS = {
    ORDER_MISSING: "A buyer holds {units} in Redis, and no such order has reached the database.",
    HOLD_MISSING: "The database has an order for {units}, and Redis does not hold them.",
    HOLD_ENDED: "The database says that {units} of the ended order are on sale again, and Redis"
    " still holds them.",
}


class Repair(Enum):
    """How far a repair goes; each goes as far as those before it."""

    NOTHING = 0
    # Write missing holds, and lower the counter.
    SELL_LESS = 1
    # Send reservations without an order to Kafka once more.
    SEND_AGAIN = 2
    # Release ended holds, and raise the counter.
    RESTOCK = 3


@dataclass(frozen=True)
class Finding:
    """One disagreement about an order."""

    kind: "Kind.ValueType"
    hold: inventory_pb2.Hold


class Comparison:
    """Takes the holds first, then all orders, which were read later; then tells what differs."""

    def __init__(self, sku: str, holds: Holds, *, now_s: float, age_min_s: float) -> None:
        """`age_min_s`: whatever is younger may be on its way and is left out."""
        self._sku = sku
        self._holds = holds
        self._settled_s = now_s - age_min_s
        live = [hold for hold in holds.by_user.values() if not hold.released]
        self._live = {hold.order_no: hold for hold in live}
        self._without_order = dict(self._live)
        self._found: list[Finding] = []
        # What Redis has on sale and held beyond the total.
        self.surplus_units = (
            holds.summary.remaining_units
            + sum(hold.quantity for hold in live)
            - holds.summary.total_units
        )

    def take(self, orders: Iterable[order_pb2.SaleOrder]) -> None:
        """Look at some of the orders."""
        for order in orders:
            self._without_order.pop(order.order_no, None)
            held = order.order_no in self._live
            if order.holds_units and not held and self._is_settled(order.order_no):
                self._found.append(Finding(HOLD_MISSING, _hold_of(order)))
            elif held and not order.holds_units and self._is_restored(order):
                self._found.append(Finding(HOLD_ENDED, self._live[order.order_no]))

    def finish(self) -> Sequence[Finding]:
        """All disagreements about orders, in the order of their numbers."""
        lost = [hold for number, hold in self._without_order.items() if self._is_settled(number)]
        found = self._found + [Finding(ORDER_MISSING, hold) for hold in lost]
        return sorted(found, key=lambda finding: finding.hold.order_no)

    def drift_units(self, found: Sequence[Finding]) -> int:
        """Units that the counter has too many, once all holds are as they should be."""
        return (
            self.surplus_units
            + sum(finding.hold.quantity for finding in _of(found, HOLD_MISSING))
            - sum(finding.hold.quantity for finding in _of(found, HOLD_ENDED))
        )

    def repair(self, found: Sequence[Finding], repair: Repair) -> inventory_pb2.RepairHoldsRequest:
        """What to ask of InventoryService; what does not fit is left for the next time."""
        summary = self._holds.summary
        kinds = [HOLD_MISSING, ORDER_MISSING, HOLD_ENDED][: repair.value]
        chosen = [finding for kind in kinds for finding in _of(found, kind)][:REPAIR_MAX]
        return inventory_pb2.RepairHoldsRequest(
            sku=self._sku,
            epoch=summary.epoch,
            repairs=summary.repairs,
            surplus_units=self.surplus_units,
            missing=[finding.hold for finding in _of(chosen, HOLD_MISSING)],
            unsent=[finding.hold for finding in _of(chosen, ORDER_MISSING)],
            ended=[finding.hold for finding in _of(chosen, HOLD_ENDED)],
            restock=repair is Repair.RESTOCK,
        )

    def _is_settled(self, order_no: str) -> bool:
        return made_at_s(order_no) < self._settled_s

    def _is_restored(self, order: order_pb2.SaleOrder) -> bool:
        # The orders were read after the holds: a release may have come between.
        restored_s = order.restore_time.ToNanoseconds() / 1e9
        return order.HasField("restore_time") and restored_s < self._settled_s


def explain(finding: Finding, *, repaired: bool) -> rollback_pb2.ReconcileFinding:
    """A disagreement about an order as the contract tells it."""
    units = finding.hold.quantity
    return rollback_pb2.ReconcileFinding(
        order_no=finding.hold.order_no,
        explanation=EXPLANATIONS[finding.kind].format(units=_units(units)),
        repaired=repaired,
        kind=finding.kind,
        units=-units if finding.kind == HOLD_ENDED else units,
    )


def explain_stock(
    drift_units: int, *, remaining_units: int, repaired: bool
) -> rollback_pb2.ReconcileFinding:
    """The disagreement about the counter."""
    right = remaining_units - drift_units
    return rollback_pb2.ReconcileFinding(
        explanation=f"The counter in Redis has {_units(remaining_units)} on sale, and the total"
        f" less what is held is {right}: {abs(drift_units)} too"
        f" {'many' if drift_units > 0 else 'few'}.",
        repaired=repaired,
        kind=STOCK,
        units=drift_units,
    )


def _units(count: int) -> str:
    return f"{count} unit" if count == 1 else f"{count} units"


def _of(found: Iterable[Finding], kind: "Kind.ValueType") -> Iterator[Finding]:
    return (finding for finding in found if finding.kind == kind)


def _hold_of(order: order_pb2.SaleOrder) -> inventory_pb2.Hold:
    return inventory_pb2.Hold(
        order_no=order.order_no,
        user_id=order.user_id,
        request_id=order.request_id,
        quantity=order.quantity,
    )
