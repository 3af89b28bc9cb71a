"""The share of purchases that is let through, against gateways that are simulated tick by tick."""

import pytest

from edge.shedding import SHARE_MIN, TICK_S, Load, Shedding

CAPACITY = 10_000.0
# The gateway refuses when calls would wait longer.
REFUSED_S = 0.3


class SimulatedGateway:
    """Queues what comes, answers at its capacity, and refuses what would wait too long."""

    def __init__(self, capacity: float = CAPACITY) -> None:
        self.capacity = capacity
        self.queued = 0.0
        self.answered = 0.0

    def tick(self, sales: float, orders: float = 0.0) -> Load:
        """Take so many calls a second for the time of a tick."""
        arrived = (sales + orders) * TICK_S
        self.answered = min(self.queued + arrived, self.capacity * TICK_S)
        room = self.capacity * REFUSED_S - self.queued + self.answered
        let_in = min(arrived, room)
        self.queued += let_in - self.answered
        return Load(
            arrived=arrived / TICK_S,
            urgent=orders,
            refused=(arrived - let_in) / TICK_S,
            capacity=self.capacity,
            wait_s=self.queued / self.capacity,
        )


def run(
    shedding: Shedding, gateways: list[SimulatedGateway], *, offered: float, ticks: int
) -> list[Load]:
    """Offer so many purchases a second; returns the last tick's loads."""
    loads: list[Load] = []
    for _ in range(ticks):
        each = offered * shedding.share / len(gateways)
        loads = [gateway.tick(each) for gateway in gateways]
        shedding.tick(loads)
    return loads


@pytest.mark.parametrize("times", [2, 5, 10])
def test_in_an_overload_as_many_are_let_through_as_are_answered(times: float) -> None:
    """Within half a second of the first refusal, and with a short queue a second later."""
    shedding, gateway = Shedding(), SimulatedGateway()
    run(shedding, [gateway], offered=times * CAPACITY, ticks=8)
    assert shedding.share * times < 1.3
    run(shedding, [gateway], offered=times * CAPACITY, ticks=20)
    for _ in range(30):
        (load,) = run(shedding, [gateway], offered=times * CAPACITY, ticks=1)
        assert gateway.answered / TICK_S > 0.9 * CAPACITY
        assert load.refused < 0.1 * CAPACITY
        assert load.wait_s < 0.25


def test_below_the_capacity_nothing_is_shed() -> None:
    """Not even if the queue is long, as long as the gateway refuses nobody."""
    shedding, gateway = Shedding(), SimulatedGateway()
    for _ in range(50):
        run(shedding, [gateway], offered=0.99 * CAPACITY, ticks=1)
        assert shedding.share == 1
    gateway.queued = 0.9 * REFUSED_S * CAPACITY
    run(shedding, [gateway], offered=0.99 * CAPACITY, ticks=1)
    assert shedding.share == 1


def test_when_an_overload_has_ended_all_are_let_through_within_two_seconds() -> None:
    """From the smallest share on, though nothing is reported any more than that all is calm."""
    shedding, gateway = Shedding(), SimulatedGateway()
    run(shedding, [gateway], offered=1 / SHARE_MIN * CAPACITY, ticks=50)
    assert shedding.share < 1.5 * SHARE_MIN
    run(shedding, [gateway], offered=0.5 * CAPACITY, ticks=int(2 / TICK_S))
    assert shedding.share == 1


def test_without_reports_nothing_is_shed() -> None:
    """The gateway's own admission is left."""
    shedding, gateway = Shedding(), SimulatedGateway()
    run(shedding, [gateway], offered=5 * CAPACITY, ticks=20)
    assert shedding.share < 0.3
    for _ in range(int(2 / TICK_S)):
        shedding.tick([])
    assert shedding.share == 1


def test_capacities_of_several_gateways_are_added() -> None:
    """A slow replica among fast ones does not make the edge refuse what these could answer."""
    shedding = Shedding()
    gateways = [SimulatedGateway(), SimulatedGateway()]
    run(shedding, gateways, offered=4 * CAPACITY, ticks=40)
    assert shedding.share * 4 == pytest.approx(2, rel=0.15)


def test_calls_about_orders_take_their_part_of_the_capacity() -> None:
    """Purchases are let through for what polls leave of it."""
    shedding, gateway = Shedding(), SimulatedGateway()
    for _ in range(40):
        load = gateway.tick(5 * CAPACITY * shedding.share, orders=0.5 * CAPACITY)
        shedding.tick([load])
    assert shedding.share * 5 == pytest.approx(0.5, rel=0.2)


def test_a_gateway_of_unknown_capacity_is_not_shed_for() -> None:
    """One that has just started refuses by the number of calls alone."""
    shedding = Shedding()
    load = Load(arrived=1000, urgent=0, refused=500, capacity=0, wait_s=0)
    assert shedding.tick([load]) == 1
