"""How many processes of each stage a rate takes, found by simulating ever larger meshes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seckill_cli.preflight.model import USE
from seckill_cli.scale.costs import (
    EDGE,
    GATEWAY,
    INVENTORY,
    KAFKA,
    ORDERS,
    POSTGRES,
    REDIS,
    STAGES,
    Costs,
)
from seckill_cli.scale.crowd import Crowd
from seckill_cli.scale.layout import Layout
from seckill_cli.scale.simulation import Outcome, simulate

SECONDS = 2.0
DEADLINE_S = 1.0
LOST_MAX = 0.001
ROUNDS_MAX = 20
# A stage that is so busy may hold back more than it shows.
FULL = 0.95
# Hot sales at the same time: each in one shard of Redis.
SALES = 8
# They grow by cores; the others by processes of one core each.
STORES = (KAFKA, POSTGRES)
PROCESSES = (EDGE, GATEWAY, INVENTORY, REDIS, ORDERS)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A mixture of attempts.

    Attributes:
        title: in a table.
        edge: whether Envoy is before the gateways.
        gone: share of the attempts that are at sales of which all know that they are sold out.
        granted: share of the others that get a unit.
        tokens: share of the attempts before which a buyer who is seen for the first time fetches a
            token.
    """

    title: str
    edge: bool = False
    gone: float = 0.0
    granted: float = 1.0
    tokens: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a rate takes.

    Attributes:
        needed: stage → processes; cores of a store.
        used: stage → cores that are used on the mean.
        outcome: of the simulation of that mesh.
    """

    needed: Mapping[str, int]
    used: Mapping[str, float]
    outcome: Outcome

    @property
    def cores(self) -> int:
        """Cores in all: a process is planned with one."""
        return sum(self.needed.values())


def run(
    needed: Mapping[str, int],
    costs: Costs,
    scenario: Scenario,
    *,
    rate_per_s: float,
    seconds: float = SECONDS,
) -> Outcome:
    """Simulate a mesh of so many processes at a rate of attempts."""
    layout = Layout(
        replicas={stage: needed.get(stage, 0) for stage in PROCESSES},
        cores={stage: float(needed[stage]) for stage in STORES},
    )
    crowd = Crowd(
        rate_per_s=rate_per_s,
        seconds=seconds,
        gone=scenario.gone,
        tokens=scenario.tokens,
        deadline_s=DEADLINE_S,
    )
    return simulate(
        layout,
        costs,
        crowd,
        units=2 * int(rate_per_s * seconds) + 1,
        sales=SALES,
        granted=scenario.granted,
    )


def smallest(scenario: Scenario) -> dict[str, int]:
    """Return one process of each stage, and a core for each store."""
    return {stage: 1 for stage in STAGES if stage != EDGE or scenario.edge}


def size(costs: Costs, scenario: Scenario, *, rate_per_s: float, use: float = USE) -> Size:
    """Return the processes with which no stage uses more than `use` of its cores, none is lost, and
    99 of 100 attempts are answered in time; raises ArithmeticError if none are found.
    """
    needed = smallest(scenario)
    for _ in range(ROUNDS_MAX):
        outcome = run(needed, costs, scenario, rate_per_s=rate_per_s)
        grown = {stage: _grown(count, outcome.used[stage], use) for stage, count in needed.items()}
        if grown == needed:
            if outcome.lost_share > LOST_MAX or outcome.answers.latency_s(0.99) > DEADLINE_S:
                raise ArithmeticError(f"{scenario.title}: no stage is full, and calls are lost")
            return Size(needed=needed, used=outcome.used, outcome=outcome)
        needed = grown
    raise ArithmeticError(f"{scenario.title}: not found in {ROUNDS_MAX} rounds")


def _grown(count: int, used: float, use: float) -> int:
    """Return how many of a stage to try next; never fewer than now."""
    if used > FULL * count:
        return 2 * count
    return max(count, math.ceil(used / use))
