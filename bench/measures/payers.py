"""Buyers who have bought before, and read and pay their orders while others ask for too much."""

from typing import Any

from bench.sample import InvalidSample, Sample
from bench.world import World

# Orders read and paid a second during the overload, and how long each may take.
PAYS_PER_S = 20
PAY_TIMEOUT_S = 5.0


class Payers:
    """Buyers who have bought before, and read and pay their orders during an overload."""

    def __init__(self, world: World, orders: int) -> None:
        self._load = world.payers
        self._next = 0
        sku = world.create_sale(units=orders)
        self._load.mint(orders, world.services.issuer)
        target = world.gateway.address
        whose: dict[str, Any] = {"sku": sku, "buyers": orders, "total": orders}
        self._load.run("issue", target, **whose).require()
        world.expect_orders(self._load.run("purchase", target, **whose).require(outcome="RESERVED"))
        world.settle()
        self._orders = orders

    def pay(self, target: str, seconds: float) -> Sample:
        """Read and pay orders for so long, each once."""
        total = min(int(PAYS_PER_S * seconds), self._orders - self._next)
        if total < 1:
            raise InvalidSample("there are no more orders to pay")
        first, self._next = self._next, self._next + total
        return self._load.run(
            "pay",
            target,
            first=first,
            buyers=total,
            total=total,
            rate=PAYS_PER_S,
            connections=2,
            timeout_s=PAY_TIMEOUT_S,
        )
