"""The breaker: when it opens, when it tries, when it closes."""

import random
from itertools import pairwise

import grpc
import pytest

from seckill.breaker import FAILURES_MAX, PATIENCE_S, PAUSE_MAX_S, Breaker
from seckill.clock import SystemClock
from seckill.errors import encode_details, from_rpc_error, reason_of
from tests.factories import new_id

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


class HandClock(SystemClock):
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic_s(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still."""
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    """A closed one."""
    return Breaker(new_id("stage"), clock=clock, rng=random.Random(5))


def fail(breaker: Breaker, times: int, *, code: grpc.StatusCode = UNAVAILABLE) -> None:
    """Calls that nobody answers."""
    for _ in range(times):
        breaker.ended(code, answered=False, timeout_s=PATIENCE_S)


def is_open(breaker: Breaker) -> bool:
    """Whether a call would be refused; a try counts as made."""
    try:
        breaker.pass_call()
    except grpc.aio.AioRpcError:
        return True
    return False


def test_who_is_refused_learns_when_to_come_again(breaker: Breaker) -> None:
    """UNAVAILABLE with our details, as if the stage could not be reached."""
    fail(breaker, FAILURES_MAX)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        breaker.pass_call()
    assert caught.value.code() is UNAVAILABLE
    assert reason_of(caught.value) == "DEPENDENCY_UNAVAILABLE"
    passed_on = from_rpc_error(caught.value, stage="inventory")
    assert b"RetryInfo" in encode_details(passed_on)


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    """An answer in between begins the count anew."""
    fail(breaker, FAILURES_MAX - 1)
    breaker.ended(grpc.StatusCode.NOT_FOUND, answered=True, timeout_s=None)
    fail(breaker, FAILURES_MAX - 1)
    assert not is_open(breaker)
    fail(breaker, 1)
    assert is_open(breaker)


def test_one_call_tries_after_each_pause_and_pauses_grow_to_a_bound(
    breaker: Breaker, clock: HandClock
) -> None:
    """Between the tries nobody is let through."""
    fail(breaker, FAILURES_MAX)
    tries = []
    for _ in range(1_000):
        clock.now += 0.01
        if not is_open(breaker):
            tries.append(clock.now)
            assert is_open(breaker)
            fail(breaker, 1)
    pauses = [after - before for before, after in pairwise(tries)]
    assert 5 <= len(tries) <= 14
    assert pauses[0] < pauses[-1] <= 1.2 * PAUSE_MAX_S + 0.01


def test_an_answer_closes_it(breaker: Breaker, clock: HandClock) -> None:
    """Any status with details is one: it is the stage that speaks."""
    fail(breaker, FAILURES_MAX)
    clock.now += PAUSE_MAX_S
    assert not is_open(breaker)
    breaker.ended(UNAVAILABLE, answered=True, timeout_s=None)
    assert not any(is_open(breaker) for _ in range(10))
    fail(breaker, FAILURES_MAX - 1)
    assert not is_open(breaker)


def test_a_try_whose_answer_never_comes_is_followed_by_another(
    breaker: Breaker, clock: HandClock
) -> None:
    """Its caller may have left: that says nothing, and shuts nobody out."""
    fail(breaker, FAILURES_MAX)
    for _ in range(3):
        clock.now += 2 * PAUSE_MAX_S
        assert not is_open(breaker)
        breaker.ended(grpc.StatusCode.CANCELLED, answered=False, timeout_s=None)


def test_callers_in_a_hurry_do_not_open_it(breaker: Breaker) -> None:
    """A deadline of 50 ms that passes is no sign of a stage that stands still; two seconds are."""
    for _ in range(10 * FAILURES_MAX):
        breaker.ended(LATE, answered=False, timeout_s=0.05)
    assert not is_open(breaker)
    fail(breaker, FAILURES_MAX, code=LATE)
    assert is_open(breaker)
