"""A campaign is decided by its seed, and bounded."""

from dataclasses import replace

import pytest

from campaigns.sabotage.registry import SABOTAGES
from campaigns.soak.faults import (
    FAILPOINTS,
    KINDS,
    LINKS,
    LOSSES,
    REST_S,
    SERVICES,
    service_of,
)
from campaigns.soak.plan import BUYERS_MAX, draw
from campaigns.soak.scenarios import PLANTED

SEEDS = range(1, 31)


def test_the_same_seed_decides_the_same() -> None:
    """One seed always draws the same plan, and no two seeds draw the same."""
    assert draw(7, seconds=120) == draw(7, seconds=120)
    digests = {draw(seed, seconds=120).digest for seed in SEEDS}
    assert len(digests) == len(SEEDS)


def test_the_digest_tells_plans_apart() -> None:
    """A plan with one fault less has another digest."""
    plan = draw(7, seconds=120)
    assert replace(plan, faults=plan.faults[1:]).digest != plan.digest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_stays_within_its_bounds(seed: int) -> None:
    """All faults end within the campaign, and no target has two at once."""
    plan = draw(seed, seconds=60)
    assert 0 < len(plan.buyers) < BUYERS_MAX
    assert all(0 <= buyer.at_s < plan.seconds for buyer in plan.buyers)
    assert all(1 <= buyer.quantity <= plan.sales[buyer.sale].limit for buyer in plan.buyers)
    assert len(plan.faults) > 5
    free_s: dict[str, float] = {}
    for fault in plan.faults:
        assert fault.at_s + fault.lasts_s < plan.seconds
        assert fault.at_s >= free_s.get(fault.target, 0.0)
        free_s[fault.target] = fault.at_s + fault.lasts_s + REST_S - 0.01


def test_every_kind_of_fault_comes_up() -> None:
    """Two hundred seeds draw every kind of fault, every link and every failpoint."""
    faults = [fault for seed in range(1, 200) for fault in draw(seed, seconds=60).faults]
    assert {fault.kind for fault in faults} == KINDS.keys() | LOSSES.keys()
    links = {fault.target for fault in faults if fault.kind in {"drop", "reset"}}
    assert links == set(LINKS)
    failpoints = {fault.detail.split(":")[0] for fault in faults if fault.kind == "failpoint"}
    assert failpoints == {name for names in FAILPOINTS.values() for name in names}


def test_every_replica_can_be_struck() -> None:
    """Every service calls something over a link that can be cut."""
    assert {service_of(link.partition(">")[0]) for link in LINKS} == {
        service_of(one) for one in SERVICES
    }


def test_planted_bugs_are_registered() -> None:
    """Every bug of the scenarios is a known one, and there are at least thirty."""
    assert PLANTED.keys() <= SABOTAGES.keys()
    assert len(PLANTED) >= 30
