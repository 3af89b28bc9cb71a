"""The queues of the scale model, against what queueing theory says of them."""

import random
from collections.abc import Callable, Generator, Iterator
from itertools import repeat
from typing import Any

import pytest
from simpy import Environment, Event

from seckill_cli.scale.cores import Cores, Server, weight_of

SERVICE_S = 0.01
JOBS = 60_000
# At these loads and so many jobs the means of one seed are within this of the limits.
TOLERANCE = 0.06


def _mean_time_s(
    work: Callable[[float], Event],
    env: Environment,
    *,
    load: float,
    services: Iterator[float],
) -> float:
    """Return the mean time from the coming of a job to its end; they come at random (Poisson)."""
    source = random.Random(3)
    spent: list[float] = []

    def come() -> Generator[Event, Any, None]:
        for _ in range(JOBS):
            yield env.timeout(source.expovariate(load / SERVICE_S))
            env.process(stay(env.now))

    def stay(came_s: float) -> Generator[Event, Any, None]:
        yield work(next(services))
        spent.append(env.now - came_s)

    env.process(come())
    env.run()
    assert len(spent) == JOBS
    return sum(spent) / JOBS


def _random_services() -> Iterator[float]:
    source = random.Random(4)
    while True:
        yield source.expovariate(1 / SERVICE_S)


def test_a_process_with_even_work_is_md1() -> None:
    """M/D/1: a job waits rho / (2 (1 - rho)) times its service."""
    env = Environment()
    server = Server(env, Cores(env, 1.0))
    mean_s = _mean_time_s(server.work, env, load=0.7, services=repeat(SERVICE_S))
    assert mean_s == pytest.approx(SERVICE_S * (1 + 0.7 / (2 * 0.3)), rel=TOLERANCE)


def test_a_process_with_random_work_is_mm1() -> None:
    """M/M/1: the mean time is the service by 1 - rho."""
    env = Environment()
    server = Server(env, Cores(env, 1.0))
    mean_s = _mean_time_s(server.work, env, load=0.6, services=_random_services())
    assert mean_s == pytest.approx(SERVICE_S / 0.4, rel=TOLERANCE)


@pytest.mark.parametrize("even", [True, False])
def test_processes_that_share_a_core_have_it_in_turns(even: bool) -> None:
    """M/G/1 with processor sharing: service by 1 - rho, whatever the distribution of the work."""
    env = Environment()
    services = repeat(SERVICE_S) if even else _random_services()
    mean_s = _mean_time_s(Cores(env, 1.0).run, env, load=0.6, services=services)
    assert mean_s == pytest.approx(SERVICE_S / 0.4, rel=TOLERANCE)


def test_two_connections_are_mm2() -> None:
    """M/M/2 at rho 0.6: the mean time is the service by 1 - rho squared."""
    env = Environment()
    server = Server(env, Cores(env, 2.0), width=2)
    mean_s = _mean_time_s(server.work, env, load=1.2, services=_random_services())
    assert mean_s == pytest.approx(SERVICE_S / (1 - 0.6**2), rel=TOLERANCE)


def test_a_saturated_process_does_as_much_as_its_core() -> None:
    """A thousand jobs at once take a thousand services, and the core is never idle."""
    env = Environment()
    cores = Cores(env, 1.0)
    server = Server(env, cores)
    for _ in range(1_000):
        server.work(SERVICE_S)
    env.run()
    assert env.now == pytest.approx(1_000 * SERVICE_S)
    assert cores.busy_s == pytest.approx(env.now)
    assert server.busy_s == pytest.approx(env.now)


def test_half_a_core_takes_twice_as_long() -> None:
    """A limit of a container is less than a core."""
    env = Environment()
    Server(env, Cores(env, 0.5)).work(SERVICE_S)
    env.run()
    assert env.now == pytest.approx(2 * SERVICE_S)


def test_nobody_has_more_than_a_core() -> None:
    """One job on two cores takes what it takes on one; three on two take half as long again."""
    env = Environment()
    Cores(env, 2.0).run(SERVICE_S)
    env.run()
    assert env.now == pytest.approx(SERVICE_S)
    env = Environment()
    cores = Cores(env, 2.0)
    for _ in range(3):
        cores.run(SERVICE_S)
    env.run()
    assert env.now == pytest.approx(1.5 * SERVICE_S)


def test_nicer_processes_get_less_of_a_core() -> None:
    """Niceness 5 is a third of the weight; a weight beyond a core is for the others."""
    assert weight_of(0) == 1
    assert weight_of(5) == pytest.approx(1 / 3.05, rel=0.01)
    env = Environment()
    cores = Cores(env, 1.0)
    ends: dict[str, float] = {}

    def run(name: str, weight: float) -> Generator[Event, Any, None]:
        yield cores.run(SERVICE_S, weight=weight)
        ends[name] = env.now

    env.process(run("first", 1.0))
    env.process(run("nicer", weight_of(5)))
    env.run()
    assert ends["first"] == pytest.approx(SERVICE_S * (1 + weight_of(5)))
    assert ends["nicer"] == pytest.approx(2 * SERVICE_S)


def test_a_weight_that_is_due_more_than_a_core_leaves_the_rest() -> None:
    """On two cores a heavy job has one, and two light ones share the other."""
    env = Environment()
    cores = Cores(env, 2.0)
    ends: list[float] = []
    for weight in (100.0, 1.0, 1.0):
        done = cores.run(SERVICE_S, weight=weight)
        assert done.callbacks is not None
        done.callbacks.append(lambda _: ends.append(env.now))
    env.run()
    assert ends == pytest.approx([SERVICE_S, 1.5 * SERVICE_S, 1.5 * SERVICE_S])
