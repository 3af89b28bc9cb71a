"""The circuit breaker: when it opens, tries, and closes."""

import random
from itertools import pairwise

import grpc
import pytest

from seckill.runtime.breaker import ANSWERS_FOR_S, FAILURES_MAX, PATIENCE_S, PAUSE_MAX_S, Breaker
from seckill.runtime.clock import SystemClock
from seckill.status import encode_details, from_rpc_error, reason_of
from tests.kits.factories import new_id

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LATE = grpc.StatusCode.DEADLINE_EXCEEDED
NOW_S = 1_000.0


class HandClock(SystemClock):
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = NOW_S

    def monotonic_s(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still."""
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    """A closed breaker."""
    return Breaker(new_id("service"), clock=clock, rng=random.Random(5))


def fail(breaker: Breaker, times: int, *, code: grpc.StatusCode = UNAVAILABLE) -> None:
    """Record calls that were not answered, begun now."""
    for _ in range(times):
        record(breaker, code)


def record(
    breaker: Breaker,
    code: grpc.StatusCode = UNAVAILABLE,
    *,
    answered: bool = False,
    began_s: float = NOW_S,
    timeout_s: float | None = PATIENCE_S,
) -> None:
    """Record one call."""
    breaker.record(code, answered=answered, begun_s=began_s, timeout_s=timeout_s)


def is_open(breaker: Breaker) -> bool:
    """Return whether a call would be refused; a trial counts as made."""
    try:
        breaker.before_call()
    except grpc.aio.AioRpcError:
        return True
    return False


def test_a_refused_caller_learns_when_to_try_again(breaker: Breaker) -> None:
    """UNAVAILABLE with our details, as if the service could not be reached."""
    fail(breaker, FAILURES_MAX)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        breaker.before_call()
    assert caught.value.code() is UNAVAILABLE
    assert reason_of(caught.value) == "DEPENDENCY_UNAVAILABLE"
    passed_on = from_rpc_error(caught.value, service="inventory")
    assert b"RetryInfo" in encode_details(passed_on)


def test_it_opens_after_failures_in_a_row(breaker: Breaker, clock: HandClock) -> None:
    """An answer in between resets the count."""
    fail(breaker, FAILURES_MAX - 1)
    record(breaker, grpc.StatusCode.NOT_FOUND, answered=True)
    clock.now += 2 * ANSWERS_FOR_S
    fail(breaker, FAILURES_MAX - 1)
    assert not is_open(breaker)
    fail(breaker, 1)
    assert is_open(breaker)


def test_one_call_is_let_through_after_each_pause_and_pauses_grow_to_a_bound(
    breaker: Breaker, clock: HandClock
) -> None:
    """Between the trials every call is refused."""
    fail(breaker, FAILURES_MAX)
    trials = []
    for _ in range(1_000):
        clock.now += 0.01
        if not is_open(breaker):
            trials.append(clock.now)
            assert is_open(breaker)
            fail(breaker, 1)
    pauses = [after - before for before, after in pairwise(trials)]
    assert 5 <= len(trials) <= 14
    assert pauses[0] < pauses[-1] <= 1.2 * PAUSE_MAX_S + 0.01


def test_an_answer_closes_it(breaker: Breaker, clock: HandClock) -> None:
    """Any status with details is an answer: it came from the service."""
    fail(breaker, FAILURES_MAX)
    clock.now += PAUSE_MAX_S
    assert not is_open(breaker)
    record(breaker, UNAVAILABLE, answered=True)
    assert not any(is_open(breaker) for _ in range(10))
    fail(breaker, FAILURES_MAX - 1)
    assert not is_open(breaker)


def test_a_trial_whose_caller_leaves_is_followed_by_another(
    breaker: Breaker, clock: HandClock
) -> None:
    """A cancelled call says nothing about the service."""
    fail(breaker, FAILURES_MAX)
    for _ in range(3):
        clock.now += 2 * PAUSE_MAX_S
        assert not is_open(breaker)
        record(breaker, grpc.StatusCode.CANCELLED)


def test_callers_in_a_hurry_do_not_open_it(breaker: Breaker) -> None:
    """A passed deadline of 50 ms is no sign of a service that stands still; one second is."""
    for _ in range(10 * FAILURES_MAX):
        record(breaker, LATE, timeout_s=0.05)
    assert not is_open(breaker)
    fail(breaker, FAILURES_MAX, code=LATE)
    assert is_open(breaker)


def test_one_replica_that_goes_does_not_open_it(breaker: Breaker, clock: HandClock) -> None:
    """All of its calls fail in one moment, between two answers of another replica."""
    record(breaker, grpc.StatusCode.OK, answered=True)
    clock.now += 0.9 * ANSWERS_FOR_S
    fail(breaker, 10 * FAILURES_MAX)
    assert not is_open(breaker)


def test_one_replica_that_stands_still_does_not_open_it(breaker: Breaker, clock: HandClock) -> None:
    """Calls that begin before an answer and end long after it say nothing of all replicas."""
    for _ in range(10):
        began_s = clock.now
        clock.now += 1.0
        record(breaker, grpc.StatusCode.OK, answered=True)
        clock.now += 2 * ANSWERS_FOR_S
        for _ in range(FAILURES_MAX):
            record(breaker, LATE, began_s=began_s)
        assert not is_open(breaker)


def test_it_opens_once_nothing_has_answered_for_a_while(breaker: Breaker, clock: HandClock) -> None:
    """The last answer does not excuse failures for ever."""
    record(breaker, grpc.StatusCode.OK, answered=True)
    clock.now += 1.1 * ANSWERS_FOR_S
    for _ in range(FAILURES_MAX):
        record(breaker, began_s=clock.now)
    assert is_open(breaker)
