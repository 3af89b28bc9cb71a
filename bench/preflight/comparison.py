"""One size after the other: a short rehearsal, its forecast, and a sale as fast as the mesh can."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import uvloop

from bench.cores import Meter
from bench.load import Load
from bench.mesh import Mesh
from bench.quiet import reason
from bench.services import Service
from seckill.client.transport import authorization
from seckill_cli.preflight.checks import Plan
from seckill_cli.preflight.identities import Identities
from seckill_cli.preflight.model import error_of, forecast, mix_of
from seckill_cli.preflight.rehearsal import Rehearsal, Rehearsed
from seckill_cli.preflight.replicas import Replica

# The buyers of a rehearsal, and how many come a second: a fraction of what is forecast.
REHEARSED_BUYERS = 4_000
REHEARSED_PER_S = 1_000.0
DEADLINE_S = 1.0
# Beyond it a forecast is of no use (../../docs/capacity.md).
ERROR_MAX = 0.2
# With less of its core the path was held up by something else.
CORE_SHARE_MIN = 0.9
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Size:
    """A sale.

    Attributes:
        buyers: who come, each for a token and a unit.
        units: for sale.
    """

    name: str
    buyers: int
    units: int


@dataclass(frozen=True)
class Reached:
    """What a sale reached.

    Attributes:
        per_s: buyers a second.
        per_core_s: buyers a second of the path's CPU, whatever else had its core.
        core_share: of its core that the path had; near 1 if nothing else held it up.
    """

    per_s: float
    per_core_s: float
    core_share: float


# All get a unit; one in ten; one in two hundred.
SIZES = (Size("small", 10_000, 10_000), Size("middle", 40_000, 4_000), Size("large", 100_000, 500))


class Comparison:
    """Rehearses and runs sales on a mesh whose path has one core."""

    def __init__(
        self, mesh: Mesh, gateway: Service, load: Load, *, say: Callable[[str], object]
    ) -> None:
        """`load`: the generator of the real run."""
        self._mesh = mesh
        self._gateway = gateway
        self._load = load
        self._say = say
        self._minted = 0

    def run(self, size: Size) -> dict[str, Any]:
        """Return the forecast, what was reached, and the error."""
        self._say(f"{size.name}: rehearsing")
        with _watched() as disturbed:
            rehearsed = self._rehearse(size)
            mix = mix_of(buyers=size.buyers, units=size.units)
            expected = forecast(rehearsed.stages, mix, rate_per_s=REHEARSED_PER_S)
            self._say(f"{size.name}: forecast {expected.rate_per_s:,.0f} buyers a second")
            reached, parts = self._sell(size)
            if reached.core_share < CORE_SHARE_MIN:
                disturbed.append(f"the path had {reached.core_share:.0%} of its core")
        error = error_of(expected.rate_per_s, reached.per_s)
        self._say(f"{size.name}: reached {reached.per_s:,.0f}, error {error:.1%}")
        return {
            **asdict(size),
            "forecast_per_s": round(expected.rate_per_s, 1),
            "first": expected.first,
            "reached_per_s": round(reached.per_s, 1),
            "error": round(error, 4),
            "reached_per_core_s": round(reached.per_core_s, 1),
            "error_per_core_s": round(error_of(expected.rate_per_s, reached.per_core_s), 4),
            "core_share": round(reached.core_share, 3),
            "rehearsed": {
                "buyers": rehearsed.played.attempts,
                "rate_per_s": REHEARSED_PER_S,
                "p50_ms": round(rehearsed.played.latency_ms(0.5), 3),
                "p99_ms": round(rehearsed.played.latency_ms(0.99), 3),
                "failures": dict(rehearsed.played.failures),
                "cost_us": {
                    stage.name: {kind: round(s * 1e6, 3) for kind, s in stage.cost_s.items()}
                    for stage in rehearsed.stages
                },
            },
            "real": parts,
            "unfit": "; ".join(disturbed),
        }

    def _rehearse(self, size: Size) -> Rehearsed:
        buyers = min(size.buyers, REHEARSED_BUYERS)
        units = max(1, round(size.units * buyers / size.buyers))
        plan = Plan(size.name, buyers, units, buyers / REHEARSED_PER_S, DEADLINE_S)
        services = {
            "gateway": self._gateway,
            "inventory": self._mesh.inventory,
            "order": self._mesh.order,
            "rollback": self._mesh.rollback,
        }
        rehearsal = Rehearsal(
            plan,
            replicas=[Replica(name, one.address, HOST) for name, one in services.items()],
            identities=Identities(issuer=self._mesh.issuer),
            metadata=(authorization(self._mesh.issuer.token("operator", roles=["operator"])),),
            say=lambda step: self._say(f"{size.name}: {step}"),
        )
        return uvloop.run(rehearsal.run())

    def _sell(self, size: Size) -> tuple[Reached, dict[str, Any]]:
        """Sell as fast as answers come; return what was reached, and its two parts."""
        sku = f"{size.name}-{uuid.uuid4().hex[:8]}"
        self._mesh.create_sale(sku, units=size.units, starts_s=time.time() - 1)
        # Buyers whom the gateway has never seen: verifying who they are is a part of the cost.
        first, self._minted = self._minted, self._minted + size.buyers
        self._load.mint(self._minted, self._mesh.issuer)
        who: dict[str, Any] = {
            "sku": sku,
            "first": first,
            "buyers": size.buyers,
            "total": size.buyers,
        }
        clocks = partial(self._mesh.path_cpu_s, self._gateway)
        target = self._gateway.address
        issued = self._load.run("issue", target, clocks=clocks, **who).require()
        bought = self._load.run("purchase", target, clocks=clocks, **who).require()
        # The next rehearsal finds an idle mesh.
        self._mesh.sold(sku)
        parts = {
            name: {
                "rate_per_s": round(sample.rate_per_s, 1),
                "p99_ms": sample.latency_ms.get("p99"),
                "generator": round(sample.generator, 3),
                "cpu_us": {
                    name: round(used_s / size.buyers * 1e6, 3)
                    for name, used_s in sample.cpu_s.items()
                },
                "outcomes": dict(sample.outcomes),
            }
            for name, sample in (("issue", issued), ("purchase", bought))
        }
        seconds = issued.seconds + bought.seconds
        used_s = sum(issued.cpu_s.values()) + sum(bought.cpu_s.values())
        return Reached(size.buyers / seconds, size.buyers / used_s, used_s / seconds), parts


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Give a list that has, at the end, why the figures are not to be trusted."""
    found: list[str] = []
    meter = Meter()
    yield found
    if why := reason(meter.read()):
        found.append(why)
