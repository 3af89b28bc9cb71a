"""How much a mesh can do, from the CPU that its stages took for some work. Pure.

A stage is a process on the path of a sale: a service, or a store that tells what CPU it used. Each
kind of work costs a stage so many seconds of a core; a rate of buyers is a demand for cores, and
the stage whose cores are used up at the lowest rate breaks first. Processes that share cores have
them together. Costs are those of full batches: at lower rates batches are smaller and cost more
each, which takes nothing from what can be reached. Stages behind the answers, which write orders,
may lag: they limit no rate, but how late the last order is. That is what the simulation
(seckill_cli/scale) comes to when it is saturated; a test holds them together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Of its cores a stage is planned to use: what comes in a second is not spread evenly.
USE = 0.7
# Kinds of work: a purchase token; an attempt that reserves; one that is refused as sold out; an
# order that is written.
ISSUE, RESERVE, REFUSE, ORDER = "issue", "reserve", "refuse", "order"
KINDS = (ISSUE, RESERVE, REFUSE, ORDER)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage, and what work costs it.

    Attributes:
        cost_s: kind of work → seconds of a core for one.
        cores: that one process of it can use at once.
        processes: how many there are.
        shared_cores: names the cores that it shares; "" if it has its own.
        shared_cores_count: how many those are.
        behind: whether it works behind the answers, and may lag.
    """

    name: str
    cost_s: Mapping[str, float]
    behind: bool = False
    cores: float = 1.0
    processes: int = 1
    shared_cores: str = ""
    shared_cores_count: float = 0.0

    def demand(self, mix: Mapping[str, float]) -> float:
        """Return the seconds of a core that one buyer takes; `mix`: work of each kind per buyer."""
        return sum(self.cost_s.get(kind, 0.0) * count for kind, count in mix.items())


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where something breaks.

    Attributes:
        name: the stage, or the stages that share cores.
        rate_per_s: buyers a second at which its cores are used up.
    """

    name: str
    rate_per_s: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a mesh can do.

    Attributes:
        limits: by rate, the lowest first; none if no work was measured.
        pods: processes of each stage that the expected rate takes at the planned use.
        p99_s, lost_share: within what time 99 of 100 buyers of the planned crowd would be answered,
            and which share of them would be refused for want of time, or too late; None if the
            crowd was not simulated (expectation.py).
    """

    limits: tuple[Limit, ...]
    pods: Mapping[str, int]
    p99_s: float | None = None
    lost_share: float | None = None

    @property
    def rate_per_s(self) -> float:
        """Buyers a second that it can serve."""
        return self.limits[0].rate_per_s if self.limits else math.inf

    @property
    def first(self) -> str:
        """What breaks first."""
        return self.limits[0].name if self.limits else "nothing that was measured"


def mix_of(*, buyers: int, units: int, kinds: Sequence[str] = KINDS) -> dict[str, float]:
    """Return the work of each kind that one buyer of a sale causes, one attempt each."""
    reserved = min(1.0, units / buyers)
    every = {ISSUE: 1.0, RESERVE: reserved, REFUSE: 1.0 - reserved, ORDER: reserved}
    return {kind: every[kind] for kind in kinds}


def forecast(
    stages: Sequence[Stage], mix: Mapping[str, float], *, rate_per_s: float, use: float = USE
) -> Forecast:
    """Return where each stage breaks, and what a rate takes.

    Args:
        stages: each with its costs.
        mix: work of each kind per buyer.
        rate_per_s: buyers a second that are expected.
        use: share of a process's cores that is planned for.
    """
    limits = [
        Limit(name=stage.name, rate_per_s=stage.processes * stage.cores / demand)
        for stage in stages
        if not stage.behind and (demand := stage.demand(mix)) > 0
    ]
    for shared in sorted({stage.shared_cores for stage in stages if stage.shared_cores}):
        together = [stage for stage in stages if stage.shared_cores == shared]
        # Each process has its share of the stage's work; those elsewhere have theirs.
        demand = sum(stage.demand(mix) for stage in together)
        cores = max(stage.shared_cores_count for stage in together)
        if len(together) > 1 and demand > 0 and cores > 0:
            names = ", ".join(stage.name for stage in together)
            limits.append(Limit(name=f"the cores of {names}", rate_per_s=cores / demand))
    pods = {
        stage.name: pods_for(rate_per_s, stage.demand(mix), cores=stage.cores, use=use)
        for stage in stages
    }
    return Forecast(limits=tuple(sorted(limits, key=lambda limit: limit.rate_per_s)), pods=pods)


def last_order_s(stages: Sequence[Stage], *, orders: int) -> float:
    """Return within how many seconds so many reservations are orders, if all come at once.

    Some are written while others are still being reserved: what both took is the cost of an order.
    """
    return max(
        (
            orders * stage.demand({RESERVE: 1.0, ORDER: 1.0}) / (stage.processes * stage.cores)
            for stage in stages
            if stage.behind
        ),
        default=0.0,
    )


def pods_for(rate_per_s: float, cost_s: float, *, cores: float, use: float = USE) -> int:
    """Return the processes that a rate takes: rate · cost / (cores · use), at least one."""
    # What is exactly full is not one more.
    return max(1, math.ceil(rate_per_s * cost_s / (cores * use) - 1e-9))


def error_of(forecast_per_s: float, reached_per_s: float) -> float:
    """Return by how much a forecast was wrong, as a share of what was reached."""
    return abs(forecast_per_s - reached_per_s) / reached_per_s
