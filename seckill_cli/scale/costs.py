"""What the steps of a purchase take of each stage: a part for each batch, a part for each item."""

from collections.abc import Mapping
from dataclasses import dataclass

# Steps: a purchase token; an attempt that Redis decides; one that the gateway refuses by itself,
# as its sale is sold out; one that is refused for the time it would wait; a reservation on its way
# to Kafka; a reservation that becomes an order; a call that the edge passes on.
ISSUE, RESERVE, REFUSE, SHED = "issue", "reserve", "refuse", "shed"
RELAY, ORDER, PASS = "relay", "order", "pass"

# Stages, from the caller inwards. `load` is a generator that shares the machine.
LOAD, EDGE, GATEWAY, INVENTORY, REDIS = "load", "edge", "gateway", "inventory", "redis"
KAFKA, ORDERS, POSTGRES = "kafka", "order", "postgres"
STAGES = (EDGE, GATEWAY, INVENTORY, REDIS, KAFKA, ORDERS, POSTGRES)


@dataclass(frozen=True)
class Cost:
    """Seconds of a core.

    Attributes:
        batch_s: for a batch, however many items it has.
        item_s: for each item.
    """

    batch_s: float = 0.0
    item_s: float = 0.0

    def of(self, items: int) -> float:
        """Return what a batch of so many takes."""
        return self.batch_s + items * self.item_s


FREE = Cost()


@dataclass(frozen=True)
class Point:
    """What was measured once.

    Attributes:
        items: in a batch, on the mean.
        item_s: seconds of a core for each item, with its share of the batch.
    """

    items: float
    item_s: float


def fit(few: Point, many: Point) -> Cost:
    """Return the cost that explains both; neither part of it is negative.

    Args:
        few, many: with small batches, and with large ones.
    """
    apart = 1 / few.items - 1 / many.items
    batch_s = max(0.0, (few.item_s - many.item_s) / apart) if apart > 0 else 0.0
    # More than the whole of a large batch cannot be for the batch.
    batch_s = min(batch_s, many.item_s * many.items)
    return Cost(batch_s, many.item_s - batch_s / many.items)


class Costs:
    """What each step takes of each stage."""

    def __init__(self, costs: Mapping[str, Mapping[str, Cost]]) -> None:
        """`costs`: stage → step → cost; what is left out takes nothing."""
        self._costs = costs

    def of(self, stage: str, step: str) -> Cost:
        """Return the cost of a step."""
        return self._costs.get(stage, {}).get(step, FREE)

    def as_us(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return them in microseconds, for a document."""
        return {
            stage: {
                step: {"batch": round(cost.batch_s * 1e6, 3), "item": round(cost.item_s * 1e6, 3)}
                for step, cost in steps.items()
            }
            for stage, steps in self._costs.items()
        }
