"""What a planned crowd would meet: the scale model, with the costs that a rehearsal measured."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from seckill_cli.preflight import model
from seckill_cli.preflight.checks import Plan
from seckill_cli.preflight.model import Forecast, Stage
from seckill_cli.scale.costs import (
    GATEWAY,
    INVENTORY,
    ISSUE,
    ORDER,
    ORDERS,
    REDIS,
    REFUSE,
    RELAY,
    RESERVE,
    Cost,
    Costs,
)
from seckill_cli.scale.crowd import Crowd
from seckill_cli.scale.layout import Layout, Pool
from seckill_cli.scale.simulation import simulate

# The beginning of a crowd is simulated: later it is the same, or less once all is sold. Longer or
# more takes more time than an operator waits.
SECONDS_MAX = 5.0
CALLS_MAX = 1_000_000
# Beyond so many times what the mesh can do more buyers are only refused.
BEYOND_MAX = 3.0
# Steps of the simulation by stage, each with the kinds of work that it is made of.
STEPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    GATEWAY: {ISSUE: (model.ISSUE,), RESERVE: (model.RESERVE,), REFUSE: (model.REFUSE,)},
    INVENTORY: {RESERVE: (model.RESERVE,), RELAY: (model.ORDER,)},
    REDIS: {ISSUE: (model.ISSUE,), RESERVE: (model.RESERVE,), ORDER: (model.ORDER,)},
    # Some orders are written while others are still being reserved.
    ORDERS: {ORDER: (model.RESERVE, model.ORDER)},
}


def costs_of(stages: Sequence[Stage]) -> Costs:
    """Return what the steps take; that of full batches, whatever their size."""
    return Costs(
        {
            stage.name: {
                step: Cost(item_s=sum(stage.cost_s.get(kind, 0.0) for kind in kinds))
                for step, kinds in STEPS.get(stage.name, {}).items()
            }
            for stage in stages
        }
    )


def layout_of(stages: Sequence[Stage]) -> Layout:
    """Return the processes and cores that were found."""
    known = [stage for stage in stages if stage.name in STEPS]
    pools = []
    for shared in dict.fromkeys(stage.shared_cores for stage in known if stage.shared_cores):
        together = [stage for stage in known if stage.shared_cores == shared]
        cores = max(stage.shared_cores_count for stage in together)
        if cores > 0:
            pools.append(Pool(cores, {stage.name: 0 for stage in together}))
    return Layout(
        replicas={stage.name: stage.processes for stage in known},
        cores={stage.name: stage.cores for stage in known},
        pools=tuple(pools),
    )


def expect(forecast: Forecast, stages: Sequence[Stage], plan: Plan) -> Forecast:
    """Return the forecast with what the beginning of the planned crowd would meet."""
    rate_per_s = min(plan.rate_per_s, BEYOND_MAX * forecast.rate_per_s)
    seconds = min(plan.seconds, SECONDS_MAX, CALLS_MAX / rate_per_s)
    outcome = simulate(
        layout_of(stages),
        costs_of(stages),
        Crowd(rate_per_s=rate_per_s, seconds=seconds, tokens=1.0, deadline_s=plan.deadline_s),
        units=plan.units,
        settle_max_s=0.0,
    )
    return replace(forecast, p99_s=outcome.answers.latency_s(0.99), lost_share=outcome.lost_share)
