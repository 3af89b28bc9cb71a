"""The check of the scale model and its sizes, on runs that are made up."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.scale.__main__ import LATEST
from bench.scale.calibration import Shares, calibrate
from bench.scale.check import Measured, compare, compared, foretell, layout_of, read
from bench.scale.real import Seen
from bench.scale.setups import FULL, GONE, LONE, ONE, ONE_SHARED, SMALL, TWO, Visit
from bench.scale.sizing import Scenario, size
from seckill_cli.scale.costs import (
    EDGE,
    GATEWAY,
    INVENTORY,
    KAFKA,
    LOAD,
    ORDER,
    ORDERS,
    POSTGRES,
    REDIS,
    REFUSE,
    RELAY,
    RESERVE,
    Cost,
    Costs,
)

SHARES = Shares(
    inventory_relay=0.2,
    redis_relay=0.1,
    redis_order=0.2,
    shed=0.1,
    edge_pass=2.0,
    edge_refuse=0.5,
)
US = 1e-6
# In batches of 100, or one by one: what a batch takes, and each item.
STAGES = {
    GATEWAY: Cost(300 * US, 20 * US),
    INVENTORY: Cost(200 * US, 8 * US),
    REDIS: Cost(50 * US, 9 * US),
    KAFKA: Cost(100 * US, 2 * US),
    ORDERS: Cost(1_000 * US, 20 * US),
    POSTGRES: Cost(500 * US, 25 * US),
}


def seen(visit: Visit, items: float) -> Seen:
    """A visit in which every batch had so many items."""
    used = {
        stage: visit.buyers * (cost.item_s + cost.batch_s / items) for stage, cost in STAGES.items()
    }
    return Seen(
        rate_per_s=1.0,
        written_s=1.0,
        p99_ms=1.0,
        cpu_s={**used, LOAD: visit.buyers * 10 * US},
        items={"attempts": items, "relayed": items, "orders": items},
        issue_us={GATEWAY: 180.0, INVENTORY: 0.0, REDIS: 15.0},
    )


def made_costs() -> Costs:
    """What these runs say, with two of the large one that differ."""
    full = seen(FULL, 100)
    slow, fast = (
        replace(full, cpu_s={stage: used * times for stage, used in full.cpu_s.items()})
        for times in (1.5, 0.5)
    )
    return calibrate({LONE: [seen(LONE, 1)], FULL: [slow, fast], GONE: [seen(GONE, 100)]}, SHARES)


def test_costs_are_what_the_runs_were_made_of() -> None:
    """Batch and item of each stage; the relay's and the order's parts are taken out of others."""
    costs = made_costs()
    for stage, step in ((GATEWAY, RESERVE), (ORDERS, ORDER), (KAFKA, RELAY)):
        cost = costs.of(stage, step)
        assert cost.batch_s == pytest.approx(STAGES[stage].batch_s)
        assert cost.item_s == pytest.approx(STAGES[stage].item_s)
    inventory_us = (8 + 200 / 100) * US
    assert costs.of(INVENTORY, RELAY).item_s == pytest.approx(0.2 * inventory_us)
    assert costs.of(INVENTORY, RESERVE).item_s == pytest.approx(8 * US - 0.2 * inventory_us)
    redis_us = (9 + 50 / 100) * US
    whole = sum(costs.of(REDIS, step).of(100) for step in (RESERVE, RELAY, ORDER))
    assert whole == pytest.approx(100 * redis_us)
    assert costs.of(GATEWAY, REFUSE).item_s == pytest.approx(23 * US)
    assert costs.of(EDGE, REFUSE).item_s == pytest.approx(0.5 * 23 * US)


def test_processes_of_the_path_share_a_core_or_all_share_all() -> None:
    """And what idle processes use is not there for work, twice with two of each."""
    idle = {GATEWAY: 0.01, ORDERS: 0.02}
    path, others = layout_of(ONE, idle).pools
    assert set(path.stages) == {GATEWAY, INVENTORY, REDIS}
    assert path.cores == pytest.approx(1 - 0.01)
    assert others.stages[LOAD] < others.stages[POSTGRES]
    assert layout_of(TWO, idle).pools[0].cores == pytest.approx(1 - 0.02)
    (together,) = layout_of(ONE_SHARED, idle).pools
    assert together.cores == pytest.approx(path.cores + others.cores)


def test_an_error_is_a_share_of_what_was_seen() -> None:
    """A run that came to what was foretold has none; one of half the rate is 100 per cent off."""
    costs = made_costs()
    expected = foretell(ONE, SMALL, costs, {})
    assert expected.written_s is not None
    same = replace(
        seen(SMALL, 100),
        rate_per_s=expected.rate_per_s,
        written_s=expected.written_s,
        cpu_s=expected.cpu_s,
    )
    found = compared(ONE, SMALL, costs, {}, same)
    assert found["errors"] == pytest.approx({"rate": 0.0, "written": 0.0}, abs=1e-3)
    assert found["error_cpu"] == 0.0
    slow = replace(same, rate_per_s=expected.rate_per_s / 2)
    assert compared(ONE, SMALL, costs, {}, slow)["errors"]["rate"] == pytest.approx(1.0)


def test_a_document_is_read_as_it_was_written() -> None:
    """So that what was measured can be foretold again when the model has changed."""
    measured = Measured(
        calibration={LONE: [seen(LONE, 1)], FULL: [seen(FULL, 100)] * 2, GONE: [seen(GONE, 100)]},
        checks={(TWO, SMALL): seen(SMALL, 50)},
        idle={GATEWAY: 0.01},
        versions={},
    )
    document = {**compare_by(measured), "versions": {}}
    again = compare_by(read(document))
    assert again["calibration"] == document["calibration"]
    assert again["runs"][0]["seen"] == document["runs"][0]["seen"]
    assert again["error"] == pytest.approx(document["error"], rel=0.05)


def compare_by(measured: Measured) -> dict[str, Any]:
    """Compare by the shares of the last run of the bench."""
    return compare(measured, json.loads(LATEST.read_text()))


def test_a_size_leaves_each_stage_below_its_planned_use() -> None:
    """10,000 attempts a second of 100 µs of the gateway are one core: two at 70 %; orders, a tenth
    of them, of 350 µs are 0.35 cores of the order service.
    """
    costs = Costs(
        {GATEWAY: {RESERVE: Cost(item_s=100 * US)}, ORDERS: {ORDER: Cost(item_s=350 * US)}}
    )
    found = size(costs, Scenario(title="all", granted=0.1), rate_per_s=10_000)
    assert found.needed[GATEWAY] == 2
    assert found.needed[ORDERS] == 1
    assert found.used[GATEWAY] == pytest.approx(1.0, rel=0.05)
    assert found.outcome.lost_share == 0
    assert found.cores == 2 + 5
