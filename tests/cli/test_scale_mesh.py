"""The scale model as a whole, where the answer is known without it."""

from collections.abc import Mapping

import pytest

from seckill_cli.scale.costs import (
    EDGE,
    GATEWAY,
    INVENTORY,
    ISSUE,
    KAFKA,
    ORDER,
    ORDERS,
    PASS,
    POSTGRES,
    REDIS,
    REFUSE,
    RELAY,
    RESERVE,
    SHED,
    Cost,
    Costs,
    Point,
    fit,
)
from seckill_cli.scale.crowd import LATE, REFUSED, RESERVED, SOLD_OUT, Crowd
from seckill_cli.scale.layout import Layout, Limits, Pool
from seckill_cli.scale.simulation import simulate

US = 1e-6


def _costs(**items_us: float) -> Costs:
    """Costs of an attempt by stage, and `order`, `postgres` of an order."""
    steps: Mapping[str, str] = {ORDERS: ORDER, POSTGRES: ORDER, KAFKA: RELAY}
    return Costs(
        {stage: {steps.get(stage, RESERVE): Cost(item_s=us * US)} for stage, us in items_us.items()}
    )


def _saturated(layout: Layout, costs: Costs, total: int = 40_000) -> float:
    crowd = Crowd(in_flight=512, total=total)
    return simulate(layout, costs, crowd, units=total).rate_per_s


def test_the_slowest_stage_sets_the_rate_if_each_has_a_core() -> None:
    """20 µs of the gateway are 50,000 a second; inventory and Redis work meanwhile."""
    rate_per_s = _saturated(Layout(), _costs(gateway=20, inventory=10, redis=5))
    assert rate_per_s == pytest.approx(50_000, rel=0.03)


def test_stages_that_share_a_core_add_up() -> None:
    """20, 10 and 5 µs of one core are 28,571 a second, with one process of each or with two."""
    pool = Pool(1.0, {GATEWAY: 0, INVENTORY: 0, REDIS: 0})
    costs = _costs(gateway=20, inventory=10, redis=5)
    for count in (1, 2):
        layout = Layout(replicas={GATEWAY: count, INVENTORY: count}, pools=(pool,))
        assert _saturated(layout, costs) == pytest.approx(1 / (35 * US), rel=0.03)


def test_two_gateways_with_cores_do_twice_as_much() -> None:
    """Until another stage is full: 10 µs of inventory are 100,000 a second."""
    costs = _costs(gateway=20, inventory=10)
    two = Layout(replicas={GATEWAY: 2, INVENTORY: 2})
    assert _saturated(two, costs) == pytest.approx(100_000, rel=0.05)
    one = Layout(replicas={GATEWAY: 4})
    assert _saturated(one, costs) == pytest.approx(100_000, rel=0.05)


def test_a_batch_costs_less_for_each_the_more_there_are() -> None:
    """With 2 ms a batch, large batches are worth it: more in flight is more a second."""
    costs = Costs({GATEWAY: {RESERVE: Cost(item_s=10 * US)}, REDIS: {RESERVE: Cost(batch_s=2e-3)}})
    few = simulate(Layout(), costs, Crowd(in_flight=32, total=4_000), units=4_000)
    many = simulate(Layout(), costs, Crowd(in_flight=512, total=40_000), units=40_000)
    assert many.batch > 4 * few.batch
    assert many.rate_per_s > 4 * few.rate_per_s


def test_orders_are_written_as_fast_as_the_slowest_of_their_stages() -> None:
    """20,000 orders of 100 µs take one consumer two seconds, and two of them one."""
    for count, seconds in ((1, 2.0), (2, 1.0)):
        layout = Layout(replicas={ORDERS: count})
        crowd = Crowd(in_flight=512, total=20_000)
        outcome = simulate(layout, _costs(gateway=1, order=100), crowd, units=20_000)
        assert outcome.orders == 20_000
        assert outcome.written_s == pytest.approx(seconds, rel=0.06)


def test_consumers_of_one_sale_wait_for_its_row() -> None:
    """100 µs of Postgres are 10,000 orders a second of one sale, for one consumer and for four:
    then three wait for the row, and the database's other cores are idle.
    """
    crowd, costs = Crowd(in_flight=512, total=20_000), _costs(gateway=1, postgres=100)
    for consumers, waited_s in ((1, 0.0), (4, 3 * 2.0)):
        layout = Layout(replicas={ORDERS: consumers}, cores={POSTGRES: 8.0})
        outcome = simulate(layout, costs, crowd, units=20_000)
        assert outcome.written_s == pytest.approx(2.0, rel=0.06)
        assert outcome.lock_wait_s == pytest.approx(waited_s, rel=0.2)


def test_units_are_sold_once_and_the_rest_is_told_so() -> None:
    """10,000 attempts on 1,000 units: 1,000 orders; nobody is left without an answer."""
    crowd = Crowd(rate_per_s=20_000, seconds=0.5, tokens=1.0)
    outcome = simulate(Layout(), _costs(gateway=10), crowd, units=1_000)
    outcomes = outcome.answers.outcomes
    assert outcomes[RESERVED] == outcome.orders == 1_000
    assert outcomes.total() == outcomes[RESERVED] + outcomes[SOLD_OUT]
    assert outcomes.total() == pytest.approx(10_000, rel=0.05)


def test_what_the_gateway_knows_to_be_gone_asks_nobody() -> None:
    """After the notice refusals cost the gateway what a refusal costs, and Redis nothing."""
    costs = Costs(
        {
            GATEWAY: {RESERVE: Cost(item_s=10 * US), REFUSE: Cost(item_s=5 * US)},
            REDIS: {RESERVE: Cost(item_s=10 * US)},
        }
    )
    crowd = Crowd(rate_per_s=20_000, seconds=2.0)
    outcome = simulate(Layout(limits=Limits(notice_s=0.1)), costs, crowd, units=100)
    assert outcome.used[REDIS] == pytest.approx(0.1 / 2.0 * 0.2, rel=0.2)
    assert outcome.used[GATEWAY] == pytest.approx(0.1 + 0.1 / 2.0 * 0.1, rel=0.1)


def test_the_edge_refuses_before_the_gateway() -> None:
    """With an edge a refusal costs the gateway nothing once it is known."""
    costs = Costs(
        {
            EDGE: {PASS: Cost(item_s=20 * US), REFUSE: Cost(item_s=10 * US)},
            GATEWAY: {RESERVE: Cost(item_s=10 * US), REFUSE: Cost(item_s=5 * US)},
        }
    )
    crowd = Crowd(rate_per_s=20_000, seconds=2.0)
    layout = Layout(replicas={EDGE: 1}, limits=Limits(notice_s=0.0))
    outcome = simulate(layout, costs, crowd, units=100)
    assert outcome.used[EDGE] == pytest.approx(0.2, rel=0.05)
    assert outcome.used[GATEWAY] < 0.01


def test_a_token_is_fetched_before_the_attempt() -> None:
    """15 µs for a token and 5 for an attempt are 50,000 buyers a second."""
    costs = Costs({GATEWAY: {ISSUE: Cost(item_s=15 * US), RESERVE: Cost(item_s=5 * US)}})
    crowd = Crowd(in_flight=512, total=40_000, tokens=1.0)
    outcome = simulate(Layout(), costs, crowd, units=40_000)
    assert outcome.answers.outcomes[RESERVED] == pytest.approx(40_000, rel=0.02)


def test_beyond_its_capacity_a_gateway_answers_whom_it_lets_in() -> None:
    """Twice the capacity for 5 s: what is let in is answered in time, the rest is told at once."""
    costs = Costs({GATEWAY: {RESERVE: Cost(item_s=100 * US), SHED: Cost(item_s=5 * US)}})
    crowd = Crowd(rate_per_s=20_000, seconds=5.0, deadline_s=1.0)
    outcome = simulate(Layout(), costs, crowd, units=1_000_000)
    assert outcome.answers.outcomes[LATE] == 0
    assert outcome.rate_per_s == pytest.approx(9_500, rel=0.06)
    assert outcome.answers.outcomes[REFUSED] == pytest.approx(50_000, rel=0.1)
    assert outcome.answers.latency_s(0.99) < 1.0


def test_a_share_of_the_attempts_is_at_sales_that_are_gone() -> None:
    """Nine in ten are refused by the gateway; of the others Redis grants every second one."""
    costs = Costs({REDIS: {RESERVE: Cost(item_s=100 * US)}})
    crowd = Crowd(rate_per_s=20_000, seconds=2.0, gone=0.9)
    outcome = simulate(Layout(), costs, crowd, units=1_000_000, granted=0.5)
    assert outcome.answers.outcomes[RESERVED] == pytest.approx(2_000, rel=0.05)
    assert outcome.used[REDIS] == pytest.approx(0.2, rel=0.05)


def test_the_same_seed_gives_the_same_outcome() -> None:
    """What is random is drawn from the seed."""
    crowd = Crowd(rate_per_s=5_000, seconds=1.0)
    first, again, other = (
        simulate(Layout(), _costs(gateway=50), crowd, units=100, seed=seed).answers
        for seed in (1, 1, 2)
    )
    assert first.latencies == again.latencies
    assert first.latencies != other.latencies


def test_costs_are_fitted_through_both_points() -> None:
    """100 µs a batch and 10 an item are 110 in a batch of one, and 11 in one of a hundred."""
    cost = fit(Point(1, 110 * US), Point(100, 11 * US))
    assert cost.batch_s == pytest.approx(100 * US)
    assert cost.item_s == pytest.approx(10 * US)
    assert cost.of(50) == pytest.approx(600 * US)


def test_a_fit_has_no_negative_part() -> None:
    """Batches that cost more the larger they are, or nothing but the batch, are noise."""
    assert fit(Point(1, 5 * US), Point(100, 10 * US)) == Cost(0.0, 10 * US)
    steep = fit(Point(1, 10_000 * US), Point(10, 10 * US))
    assert steep.item_s == pytest.approx(0.0)
    assert steep.of(10) == pytest.approx(100 * US)
