"""The arithmetic of `seckill preflight`, on known numbers."""

import pytest

from seckill_cli.preflight.model import (
    ISSUE,
    ORDER,
    REFUSE,
    RESERVE,
    Stage,
    error_of,
    forecast,
    last_order_s,
    mix_of,
    pods_for,
)

# Microseconds of docs/capacity.md.
GATEWAY = Stage(name="gateway", cost_s={ISSUE: 17e-6, RESERVE: 25e-6, REFUSE: 14e-6})
INVENTORY = Stage(name="inventory", cost_s={RESERVE: 12e-6})
ORDERS = Stage(name="order", cost_s={ORDER: 34e-6}, behind=True)


def test_work_of_a_buyer_is_shared_by_who_gets_a_unit() -> None:
    """One buyer in ten reserves, nine are refused, and all take a token."""
    mix = mix_of(buyers=1_000, units=100)
    assert mix == pytest.approx({ISSUE: 1.0, RESERVE: 0.1, REFUSE: 0.9, ORDER: 0.1})


def test_more_units_than_buyers_refuse_nobody() -> None:
    """Every buyer reserves one."""
    assert mix_of(buyers=10, units=1_000)[REFUSE] == 0


def test_the_stage_whose_core_is_used_up_first_breaks_first() -> None:
    """17 + 0.1 · 25 + 0.9 · 14 = 32.1 µs of the gateway's core: 31,153 buyers a second."""
    found = forecast([ORDERS, INVENTORY, GATEWAY], mix_of(buyers=10, units=1), rate_per_s=30_000)
    assert found.first == "gateway"
    assert found.rate_per_s == pytest.approx(1 / 32.1e-6)
    assert [limit.name for limit in found.limits] == ["gateway", "inventory"]


def test_pods_are_rate_times_cost_by_the_planned_use() -> None:
    """30,000 · 32.1 µs / 0.7 = 1.38 cores: two gateways; one of each other stage."""
    found = forecast([GATEWAY, INVENTORY], mix_of(buyers=10, units=1), rate_per_s=30_000)
    assert found.pods == {"gateway": 2, "inventory": 1}
    assert pods_for(7_000, 100e-6, cores=1.0) == 1
    assert pods_for(7_001, 100e-6, cores=1.0) == 2
    assert pods_for(7_000, 100e-6, cores=0.5) == 2


def test_two_processes_of_a_stage_do_twice_as_much() -> None:
    """And a limit of half a core half as much."""
    two = Stage(name="gateway", cost_s=GATEWAY.cost_s, processes=2)
    half = Stage(name="gateway", cost_s=GATEWAY.cost_s, cores=0.5)
    mix = mix_of(buyers=10, units=1)
    assert forecast([two], mix, rate_per_s=1).rate_per_s == pytest.approx(2 / 32.1e-6)
    assert forecast([half], mix, rate_per_s=1).rate_per_s == pytest.approx(0.5 / 32.1e-6)


def test_processes_that_share_a_core_have_it_together() -> None:
    """Gateway and inventory on one core: 25 + 12 µs a reservation, with 17 of a token."""
    stages = [
        Stage(
            name=stage.name,
            cost_s=stage.cost_s,
            shared_cores="node:0",
            shared_cores_count=1,
        )
        for stage in (GATEWAY, INVENTORY)
    ]
    found = forecast(stages, mix_of(buyers=1, units=1), rate_per_s=1)
    assert found.first == "the cores of gateway, inventory"
    assert found.rate_per_s == pytest.approx(1 / 54e-6)


def test_what_works_behind_the_answers_may_lag() -> None:
    """50,000 orders of 34 µs take 1.7 s of one core, half of that with two replicas."""
    two = Stage(name="order", cost_s=ORDERS.cost_s, behind=True, processes=2)
    assert last_order_s([GATEWAY, ORDERS], orders=50_000) == pytest.approx(1.7)
    assert last_order_s([GATEWAY, two], orders=50_000) == pytest.approx(0.85)
    assert last_order_s([GATEWAY], orders=50_000) == 0


def test_nothing_measured_limits_nothing() -> None:
    """As of a mesh that tells of no CPU."""
    found = forecast([Stage(name="gateway", cost_s={})], {ISSUE: 1.0}, rate_per_s=100)
    assert found.limits == ()
    assert "nothing" in found.first


def test_the_error_of_a_forecast_is_a_share_of_what_was_reached() -> None:
    """12,000 for 10,000 is a fifth too much, 8,000 a fifth too little."""
    assert error_of(12_000, 10_000) == pytest.approx(0.2)
    assert error_of(8_000, 10_000) == pytest.approx(0.2)
