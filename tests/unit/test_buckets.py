"""Token buckets against a plain model, and their memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.buckets import RETRY_STEP_S, Buckets, full_after_taking, tokens_left
from gateway.recent import Recent
from seckill.errors import RateLimited


def admits(buckets: Buckets, key: str, now_s: float) -> bool:
    """Whether a token could be taken."""
    try:
        buckets.take(key, now_s)
    except RateLimited:
        return False
    return True


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    gaps_s=st.lists(st.floats(0, 3), min_size=1, max_size=200),
)
def test_no_window_lets_more_through_than_burst_and_rate(
    rate: float, burst: int, gaps_s: list[float]
) -> None:
    """In any stretch of time at most burst + rate * its length pass."""
    buckets = Buckets("user", rate_per_s=rate, burst=burst, tracked_max=10)
    now_s, passed = 1000.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        if admits(buckets, "a", now_s):
            passed.append(now_s)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 0.01


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 500), uptime_s=st.floats(0, 1e7))
def test_a_full_bucket_holds_exactly_its_burst(rate: float, burst: int, uptime_s: float) -> None:
    """Rounding neither steals a token nor gives one away, however long the machine is up."""
    buckets = Buckets("user", rate_per_s=rate, burst=burst, tracked_max=10)
    assert [admits(buckets, "a", uptime_s) for _ in range(burst + 1)] == [True] * burst + [False]


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 20))
def test_the_refused_get_in_after_the_time_they_were_told(rate: float, burst: int) -> None:
    """RetryInfo is true, and at most a step too careful."""
    buckets = Buckets("user", rate_per_s=rate, burst=burst, tracked_max=10)
    for _ in range(burst):
        buckets.take("a", 50.0)
    with pytest.raises(RateLimited) as caught:
        buckets.take("a", 50.0)
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert wait_s <= 1 / rate + RETRY_STEP_S
    assert admits(buckets, "a", 50.0 + wait_s)


def test_a_refusal_costs_no_token_and_is_counted() -> None:
    """Whoever knocks on an empty bucket does not push his next turn away."""
    refusals: list[int] = []
    buckets = Buckets(
        "user", rate_per_s=1, burst=1, tracked_max=10, on_refusal=lambda: refusals.append(1)
    )
    buckets.take("a", 0.0)
    for knock in range(9):
        assert not admits(buckets, "a", knock / 10)
    assert admits(buckets, "a", 1.0)
    assert len(refusals) == 9


def test_buckets_of_different_keys_do_not_touch() -> None:
    """One buyer's haste is not another's."""
    buckets = Buckets("user", rate_per_s=1, burst=1, tracked_max=10)
    assert [admits(buckets, key, 0.0) for key in "abab"] == [True, True, False, False]


def test_a_rate_of_zero_is_no_limit() -> None:
    """0 switches the bucket off, without keeping anything."""
    buckets = Buckets("all", rate_per_s=0, burst=1, tracked_max=10)
    assert all(admits(buckets, "a", 0.0) for _ in range(100))
    assert not buckets.limited
    assert buckets.tracked == 0


def test_memory_is_bounded() -> None:
    """A million addresses do not become a million buckets, and the busy ones stay."""
    buckets = Buckets("ip", rate_per_s=1, burst=1, tracked_max=100)
    buckets.take("busy", 0.0)
    for number in range(10_000):
        admits(buckets, "busy", 0.0)
        buckets.take(f"once-{number}", 0.0)
        assert buckets.tracked <= 101
        assert not admits(buckets, "busy", 0.0)


@given(taken=st.integers(0, 30), rate=st.floats(0.5, 100), later_s=st.floats(0, 10))
def test_tokens_flow_back_at_the_rate(taken: int, rate: float, later_s: float) -> None:
    """What is left is the burst less what was taken, plus rate * time, never above the burst."""
    full_at_s = 0.0
    for _ in range(taken):
        full_at_s = full_after_taking(full_at_s, now_s=0.0, rate_per_s=rate)
    left = tokens_left(full_at_s, now_s=later_s, rate_per_s=rate, burst=30)
    assert left == pytest.approx(min(30.0, 30 - taken + rate * later_s))


@given(entries_max=st.integers(2, 20), keys=st.lists(st.integers(0, 40), max_size=300))
def test_recent_keeps_the_newest_half(entries_max: int, keys: list[int]) -> None:
    """The last entries_max / 2 keys are always there, and never more than entries_max."""
    recent: Recent[int, str] = Recent(entries_max)
    for key in keys:
        if recent.get(key) is None:
            recent.put(key, str(key))
        assert len(recent) <= entries_max
    newest = list(dict.fromkeys(reversed(keys)))[: entries_max // 2]
    assert [recent.get(key) for key in newest] == [str(key) for key in newest]
