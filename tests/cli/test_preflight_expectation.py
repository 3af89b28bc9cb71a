"""What `seckill preflight` simulates, beside the arithmetic of its forecast."""

import pytest

from seckill_cli.preflight.checks import Plan
from seckill_cli.preflight.expectation import costs_of, expect, layout_of
from seckill_cli.preflight.model import (
    ISSUE,
    ORDER,
    REFUSE,
    RESERVE,
    Forecast,
    Stage,
    forecast,
    last_order_s,
    mix_of,
)
from seckill_cli.scale.crowd import Crowd
from seckill_cli.scale.simulation import simulate

# Microseconds of bench/results/preflight.json, rounded.
COSTS = {
    "gateway": {ISSUE: 180e-6, RESERVE: 45e-6, REFUSE: 35e-6},
    "inventory": {RESERVE: 20e-6},
    "redis": {ISSUE: 15e-6, RESERVE: 10e-6, ORDER: 3e-6},
    "order": {RESERVE: 10e-6, ORDER: 14e-6},
}


def _stages(*, shared: bool = False, gateways: int = 1) -> list[Stage]:
    """The stages, each with its own core, or with one core for the path."""
    return [
        Stage(
            name=name,
            cost_s=cost_s,
            behind=name == "order",
            processes=gateways if name == "gateway" else 1,
            shared_cores="here" if shared and name != "order" else "",
            shared_cores_count=1.0 if shared and name != "order" else 0.0,
        )
        for name, cost_s in COSTS.items()
    ]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("units", [20_000, 2_000])
def test_the_simulation_saturates_where_the_forecast_says(shared: bool, units: int) -> None:
    """All buyers get a unit, or one in ten; each stage has a core, or the path shares one."""
    buyers = 20_000
    stages = _stages(shared=shared)
    expected = forecast(stages, mix_of(buyers=buyers, units=units), rate_per_s=1.0)
    crowd = Crowd(in_flight=512, total=buyers, tokens=1.0)
    outcome = simulate(layout_of(stages), costs_of(stages), crowd, units=units)
    assert outcome.rate_per_s == pytest.approx(expected.rate_per_s, rel=0.05)


def test_the_last_order_is_written_when_the_arithmetic_says() -> None:
    """20,000 orders of 24 µs of one order service, which 20 gateways do not keep waiting."""
    stages = _stages(gateways=20)
    stages = [stage for stage in stages if stage.name in {"gateway", "order"}]
    crowd = Crowd(in_flight=2_000, total=20_000)
    outcome = simulate(layout_of(stages), costs_of(stages), crowd, units=20_000)
    assert outcome.written_s == pytest.approx(last_order_s(stages, orders=20_000), rel=0.15)


def test_a_crowd_that_the_mesh_can_serve_is_answered() -> None:
    """At two thirds of what the path can do none is lost, and it takes some milliseconds."""
    plan = Plan("phone", buyers=30_000, units=100, seconds=10.0, deadline_s=1.0)
    found = _expect(plan)
    assert found.lost_share == 0
    assert found.p99_s is not None
    assert 0.0002 < found.p99_s < 0.1


def test_a_crowd_that_is_too_large_is_refused_for_its_time() -> None:
    """At twice what the path can do a half of the buyers is not answered in time."""
    plan = Plan("phone", buyers=90_000, units=100, seconds=10.0, deadline_s=1.0)
    found = _expect(plan)
    assert found.lost_share == pytest.approx(0.5, abs=0.15)


def _expect(plan: Plan) -> Forecast:
    stages = _stages()
    mix = mix_of(buyers=plan.buyers, units=plan.units)
    return expect(forecast(stages, mix, rate_per_s=plan.rate_per_s), stages, plan)
