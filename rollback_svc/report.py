"""What one comparison of a sale found, and what was repaired of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rollback_svc.comparison import (
    DELAY_ENDED,
    HOLD_ENDED,
    HOLD_MISSING,
    STOCK,
    Comparison,
    Finding,
    explain,
    explain_stock,
)
from rollback_svc.reconcile_source import Holds
from seckill.v1 import inventory_pb2, rollback_pb2
from seckill.v1.rollback_pb2 import ReconcileFindingKind as Kind

FINDINGS_MAX = 1_000


@dataclass
class Report:
    """What one comparison found, and what was repaired.

    Attributes:
        found: disagreements about orders.
        repaired: order numbers whose holds were written, sent again or released.
        undelayed: order numbers that were removed from the delay set.
        stock_repaired: whether the counter is right now.
    """

    comparison: Comparison
    holds: Holds
    found: Sequence[Finding]
    repaired: set[str] = field(default_factory=set)
    undelayed: set[str] = field(default_factory=set)
    stock_repaired: bool = False
    drift_units: int = field(init=False)
    # Units on sale or held beyond the total, after what was repaired.
    _surplus_units: int = field(init=False)

    def __post_init__(self) -> None:
        self.drift_units = self.comparison.drift_units(self.found)
        self._surplus_units = self.comparison.surplus_units

    @property
    def exact(self) -> bool:
        """Whether the counter was compared, too: nothing changed while the holds were read."""
        return self.holds.summary.consistent

    @property
    def findings(self) -> int:
        """How many disagreements there are; the counter is one."""
        return len(self.found) + bool(self.drift_units)

    @property
    def repairs(self) -> int:
        """How many of them were repaired."""
        return self.findings - len(self.unrepaired())

    def is_repaired(self, finding: Finding) -> bool:
        """Return whether this disagreement about an order was repaired."""
        done = self.undelayed if finding.kind == DELAY_ENDED else self.repaired
        return finding.hold.order_no in done

    def unrepaired(self) -> list["Kind.ValueType"]:
        """Return the kind of each disagreement that stays."""
        kinds = [finding.kind for finding in self.found if not self.is_repaired(finding)]
        return kinds + [STOCK] * (self.drift_units != 0 and not self.stock_repaired)

    def take(
        self,
        request: inventory_pb2.RepairHoldsRequest,
        response: inventory_pb2.RepairHoldsResponse,
    ) -> None:
        """Note what a repair has done."""
        done = set(response.order_nos)
        self.repaired |= done
        self._surplus_units += sum(h.quantity for h in request.missing if h.order_no in done)
        self._surplus_units -= sum(h.quantity for h in request.ended if h.order_no in done)
        self._surplus_units += response.stock_change_units
        # As long as a hold is wrong, so is what the counter should say.
        wrong = any(
            finding.kind in {HOLD_MISSING, HOLD_ENDED} and not self.is_repaired(finding)
            for finding in self.found
        )
        self.stock_repaired = self.drift_units != 0 and not (self._surplus_units or wrong)

    def to_response(self) -> rollback_pb2.ReconcileResponse:
        """Return the report as the contract has it."""
        findings = [explain(found, repaired=self.is_repaired(found)) for found in self.found]
        if self.drift_units:
            # First: it is what an operator looks for, and it must not be cut off.
            stock = explain_stock(
                self.drift_units,
                remaining_units=self.holds.summary.remaining_units,
                repaired=self.stock_repaired,
            )
            findings.insert(0, stock)
        return rollback_pb2.ReconcileResponse(
            findings=findings[:FINDINGS_MAX],
            unlisted_findings=max(0, len(findings) - FINDINGS_MAX),
            drift_units=self.drift_units,
        )
