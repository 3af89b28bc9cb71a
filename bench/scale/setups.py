"""Which meshes are run, and which crowds come to them; each has a name in the results."""

from dataclasses import dataclass

CONNECTIONS = 8


@dataclass(frozen=True)
class Setup:
    """Processes and their cores.

    Attributes:
        replicas: of gateway, inventory and order; the stores are one each.
        split: whether the path of a purchase has one core and all else the others; else all
            processes share all cores.
    """

    replicas: int
    split: bool

    @property
    def name(self) -> str:
        """In words."""
        cores = "a core for the path" if self.split else "shared cores"
        return f"{'one' if self.replicas == 1 else 'two'} of each, {cores}"


@dataclass(frozen=True)
class Visit:
    """A crowd that comes to a mesh.

    Attributes:
        buyers: each with a token, and one attempt.
        units: for sale.
        in_flight: calls at once on each of 8 connections, in a closed loop.
        rate_per_s: buyers a second in an open loop instead, if not 0.
    """

    name: str
    buyers: int
    units: int
    in_flight: int = 64
    rate_per_s: float = 0.0


ONE, TWO = Setup(1, split=True), Setup(2, split=True)
ONE_SHARED, TWO_SHARED = Setup(1, split=False), Setup(2, split=False)
# How tokens are fetched: with fewer at once than a gateway refuses any of.
TOKENS = 15
# What costs are computed from, each so many times; the others are what the model has to foretell.
LONE = Visit("few at once", 2_000, 2_000, in_flight=128, rate_per_s=750.0)
FULL = Visit("512 at once", 20_000, 20_000)
GONE = Visit("sold out", 20_000, 1)
SMALL = Visit("128 at once", 20_000, 20_000, in_flight=16)
CROWD = Visit("one in ten gets a unit", 30_000, 3_000)
CALIBRATION = {LONE: 1, FULL: 3, GONE: 1}
CHECKS = (
    (ONE, SMALL),
    (ONE, CROWD),
    (ONE_SHARED, FULL),
    (TWO, FULL),
    (TWO, SMALL),
    (TWO, CROWD),
    (TWO_SHARED, FULL),
)
