"""How long connections last, by a clock of the test's own; and what their control frames cost."""

import pytest

from gateway.settings import GatewaySettings
from seckill.front.lifetime import Lifetime, Verdict
from seckill.front.limits import CONTROL_FRAMES_MAX, ControlBudget, FrontLimits

LIMITS = FrontLimits(
    connections_max=10,
    streams_max=10,
    resets_per_s_max=10,
    half_open_max=10,
    request_timeout_s=10,
    handshake_timeout_s=5,
    idle_timeout_s=120,
    unread_timeout_s=20,
    unread_bytes_max=1_000,
    header_bytes_max=16_384,
    passed_streams_max=10,
    passed_bytes_max=1_000,
    age_max_s=600,
    age_grace_s=30,
    drain_timeout_s=10,
)


def verdict(of: Lifetime, now_s: float, *, has_calls: bool = False) -> Verdict:
    """At that time."""
    return of.verdict(now_s=now_s, has_calls=has_calls, idle_timeout_s=LIMITS.idle_timeout_s)


def greeted(*, jitter: float = 0.5) -> Lifetime:
    """A connection that has started as it should, at 0."""
    made = Lifetime(LIMITS, now_s=0.0, jitter=jitter)
    made.greeted = True
    return made


def read(of: Lifetime, now_s: float) -> None:
    """The caller has read everything."""
    of.see_answers(now_s=now_s, queued=0, buffered=0, written=0)


def test_a_connection_that_says_nothing_is_closed() -> None:
    """After the handshake's time, not before."""
    silent = Lifetime(LIMITS, now_s=0.0, jitter=0.5)
    assert verdict(silent, 4.9) is Verdict.STAYS
    assert verdict(silent, 5.1) is Verdict.HANDSHAKE


def test_a_connection_without_a_call_is_asked_to_end_and_one_with_a_call_is_not() -> None:
    """Idle time counts from the last moment with a call."""
    watched = greeted()
    for now_s in range(200):
        read(watched, now_s)
        assert verdict(watched, now_s, has_calls=True) is Verdict.STAYS
    read(watched, 320)
    assert verdict(watched, 318) is Verdict.STAYS
    assert verdict(watched, 320) is Verdict.IDLE


@pytest.mark.parametrize(("jitter", "age_s"), [(0.0, 540), (0.5, 600), (1.0, 660)])
def test_age_is_jittered_and_grace_follows(jitter: float, age_s: float) -> None:
    """Connections opened together end apart."""
    old = greeted(jitter=jitter)
    read(old, age_s)
    assert verdict(old, age_s - 1, has_calls=True) is Verdict.STAYS
    assert verdict(old, age_s, has_calls=True) is Verdict.AGE
    old.retire(now_s=age_s, grace_s=30)
    assert verdict(old, age_s + 1, has_calls=True) is Verdict.STAYS
    read(old, age_s + 30)
    assert verdict(old, age_s + 30, has_calls=True) is Verdict.GRACE


def test_a_caller_who_takes_no_answer_is_hung_up_on() -> None:
    """Bytes that no window has room for, or that the socket does not take, for twenty seconds."""
    for queued, buffered in ((100, 0), (0, 100)):
        stuck = greeted()
        read(stuck, 0.0)
        for now_s in range(1, 22):
            stuck.see_answers(now_s=now_s, queued=queued, buffered=buffered, written=100)
        assert verdict(stuck, 21.5, has_calls=True) is Verdict.UNREAD


def test_a_caller_who_reads_slowly_is_not() -> None:
    """Some bytes a second are enough."""
    slow = greeted()
    for now_s in range(100):
        slow.see_answers(now_s=now_s, queued=1_000 - now_s, buffered=0, written=now_s)
        assert verdict(slow, now_s, has_calls=True) is Verdict.STAYS


def test_too_many_unread_bytes_need_no_time() -> None:
    """The bound in bytes."""
    greedy = greeted()
    greedy.see_answers(now_s=1.0, queued=1_001, buffered=0, written=0)
    assert verdict(greedy, 1.0, has_calls=True) is Verdict.UNREAD


def test_control_frames_are_paid_for_by_time_and_by_answers() -> None:
    """A flood runs out; one PING for each answer, as clients send, never does."""
    flooded, honest = ControlBudget(), ControlBudget()
    fair = [flooded.take(100, exchanged=0, now_s=1_000.0) for _ in range(11)]
    assert fair == [True] * (CONTROL_FRAMES_MAX // 100) + [False]
    assert all(honest.take(2, exchanged=1, now_s=1_000.0) for _ in range(10_000))


def test_limits_have_the_names_of_settings() -> None:
    """Each of them is read from the environment."""
    names = {field.removeprefix("gateway_") for field in GatewaySettings.model_fields}
    known = {"age_max_s": "connection_age_max_s", "age_grace_s": "connection_grace_s"}
    assert {known.get(name, name) for name in FrontLimits.__slots__} <= names
