"""Compares the holds of a sale with its orders, by identity. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from rollback_svc.reconcile_source import Holds
from seckill.order_no import made_at_s
from seckill.v1 import inventory_pb2, order_pb2, rollback_pb2
from seckill.v1.rollback_pb2 import ReconcileFindingKind as Kind

# Holds that one repair takes.
REPAIR_MAX = 1_024

ORDER_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_ORDER_MISSING
HOLD_MISSING = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_MISSING
HOLD_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_HOLD_ENDED
STOCK = rollback_pb2.RECONCILE_FINDING_KIND_STOCK
DELAY_ENDED = rollback_pb2.RECONCILE_FINDING_KIND_DELAY_ENDED
EXPLANATIONS = {
    ORDER_MISSING: "A buyer holds {units} in Redis, and no such order has reached the database.",
    HOLD_MISSING: "The database has an order for {units}, and Redis does not hold them.",
    HOLD_ENDED: "The database says that {units} of the ended order are on sale again, and Redis"
    " still holds them.",
    DELAY_ENDED: "The order of {units} has ended, and the delay set still names it.",
}


class Repair(Flag):
    """What a repair may do."""

    NOTHING = 0
    # Write missing holds, and lower the counter.
    SELL_LESS = auto()
    # Send reservations without an order to Kafka once more.
    SEND_AGAIN = auto()
    # Release holds of ended orders, and remove these from the delay set.
    RELEASE = auto()
    # Put units on sale that nothing accounts for.
    RESTOCK = auto()
    # What needs no second word: the database accounts for each order, and caps them.
    ACCOUNTED = SELL_LESS | SEND_AGAIN | RELEASE


# What each kind of finding needs.
_NEEDS = {
    HOLD_MISSING: Repair.SELL_LESS,
    ORDER_MISSING: Repair.SEND_AGAIN,
    HOLD_ENDED: Repair.RELEASE,
}


@dataclass(frozen=True)
class Finding:
    """One disagreement about an order."""

    kind: "Kind.ValueType"
    hold: inventory_pb2.Hold


class Comparison:
    """Compares the holds with the orders, which were read later and come in pages."""

    def __init__(self, sku: str, holds: Holds, *, now_s: float, age_min_s: float) -> None:
        """`age_min_s`: what is younger may be on its way and is left out."""
        self._sku = sku
        self._holds = holds
        self._settled_s = now_s - age_min_s
        live = [hold for hold in holds.by_user.values() if not hold.released]
        self._live = {hold.order_no: hold for hold in live}
        self._without_order = dict(self._live)
        self._found: list[Finding] = []
        # Units that Redis has on sale or held, beyond the total; 0 if that cannot be said, because
        # the sale went on selling while its holds were read.
        self.surplus_units = 0
        if holds.summary.consistent:
            held = sum(hold.quantity for hold in live)
            self.surplus_units = holds.summary.remaining_units + held - holds.summary.total_units

    def take(self, orders: Iterable[order_pb2.SaleOrder]) -> None:
        """Look at some of the orders."""
        for order in orders:
            self._without_order.pop(order.order_no, None)
            held = order.order_no in self._live
            if order.holds_units and not held and self._is_settled(order.order_no):
                self._found.append(Finding(HOLD_MISSING, _hold_of(order)))
            elif held and not order.holds_units and self._is_restored(order):
                hold = inventory_pb2.Hold()
                hold.CopyFrom(self._live[order.order_no])
                hold.rejected = order.state == order_pb2.ORDER_STATE_REJECTED
                self._found.append(Finding(HOLD_ENDED, hold))

    def ended(self, orders: Iterable[order_pb2.SaleOrder]) -> list[str]:
        """Return the numbers of those orders that nothing has to be done for any more."""
        return [
            order.order_no for order in orders if not order.holds_units and self._is_restored(order)
        ]

    def take_delayed(self, orders: Iterable[order_pb2.SaleOrder], delayed: Iterable[str]) -> None:
        """Note which of the orders, all of them ended, are in the delay set."""
        wrong = set(delayed)
        self._found += [
            Finding(DELAY_ENDED, _hold_of(order)) for order in orders if order.order_no in wrong
        ]

    def finish(self) -> Sequence[Finding]:
        """Return all disagreements about orders, sorted by order number."""
        lost = [hold for number, hold in self._without_order.items() if self._is_settled(number)]
        found = self._found + [Finding(ORDER_MISSING, hold) for hold in lost]
        return sorted(found, key=lambda finding: finding.hold.order_no)

    def drift_units(self, found: Sequence[Finding]) -> int:
        """Return how many units the counter has too many, once all holds are right.

        0 if the sale went on selling: the counter was not compared.
        """
        if not self._holds.summary.consistent:
            return 0
        return (
            self.surplus_units
            + sum(finding.hold.quantity for finding in _of(found, HOLD_MISSING))
            - sum(finding.hold.quantity for finding in _of(found, HOLD_ENDED))
        )

    def repair(
        self, found: Sequence[Finding], repair: Repair, *, limit: int, repairs_made: int = 0
    ) -> inventory_pb2.RepairHoldsRequest:
        """Return what to ask of InventoryService.

        While the sale goes on selling only reservations are sent again: that needs no counter.

        Args:
            limit: most holds to repair.
            repairs_made: since the holds were read.
        """
        summary = self._holds.summary
        if not summary.consistent:
            repair &= Repair.SEND_AGAIN
        kinds = [kind for kind, needed in _NEEDS.items() if needed in repair]
        chosen = [finding for kind in kinds for finding in _of(found, kind)]
        chosen = chosen[: min(limit, REPAIR_MAX)]
        return inventory_pb2.RepairHoldsRequest(
            sku=self._sku,
            epoch=summary.epoch,
            repairs=summary.repairs + repairs_made,
            surplus_units=self.surplus_units if Repair.SELL_LESS in repair else 0,
            missing=[finding.hold for finding in _of(chosen, HOLD_MISSING)],
            unsent=[finding.hold for finding in _of(chosen, ORDER_MISSING)],
            ended=[finding.hold for finding in _of(chosen, HOLD_ENDED)],
            restock=Repair.RESTOCK in repair,
        )

    def _is_settled(self, order_no: str) -> bool:
        return made_at_s(order_no) < self._settled_s

    def _is_restored(self, order: order_pb2.SaleOrder) -> bool:
        # The orders were read after the holds: a release may have come between.
        restored_s = order.restore_time.ToNanoseconds() / 1e9
        return order.HasField("restore_time") and restored_s < self._settled_s


def explain(finding: Finding, *, repaired: bool) -> rollback_pb2.ReconcileFinding:
    """Return a disagreement about an order as the contract has it."""
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
    """Return the disagreement about the counter as the contract has it."""
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
