"""Which replicas are left out, by what their calls say."""

import json

import pytest

from seckill.runtime.channel import service_config
from seckill.runtime.http2.outliers import (
    CALLS_MIN,
    FAILED_SHARE,
    INTERVAL_S,
    JUDGED_MIN,
    LEFT_OUT_MAX_S,
    LEFT_OUT_S,
    LEFT_OUT_SHARE,
    Standing,
    judge,
)


def called(standing: Standing, *, answered: int = 0, failed: int = 0) -> None:
    """Say how the calls of an interval ended."""
    standing.answered += answered
    standing.failed += failed


@pytest.mark.parametrize(
    ("answered", "failed", "left_out"),
    [(0, 3, True), (1, 9, True), (2, 8, False), (0, 2, False), (10, 0, False)],
)
def test_a_replica_of_which_most_calls_failed_is_left_out(
    answered: int, failed: int, left_out: bool
) -> None:
    """More than 85 in a hundred, and at least three of them."""
    good, bad = Standing(), Standing()
    called(good, answered=10)
    called(bad, answered=answered, failed=failed)
    assert judge([good, bad], 0.0) == ([bad] if left_out else [])
    assert bad.left_out == left_out
    assert not good.left_out


def test_the_only_one_is_never_left_out() -> None:
    """Nor is the only one that had calls: there is nothing to compare it with."""
    only, idle = Standing(), Standing()
    called(only, failed=100)
    assert judge([only], 0.0) == []
    called(only, failed=100)
    assert judge([only, idle], INTERVAL_S) == []


def test_half_of_them_stay_whatever_they_do() -> None:
    """All fail: it is not the replicas that are at fault, and somebody must be asked."""
    all_of_them = [Standing() for _ in range(4)]
    for _ in range(3):
        for standing in all_of_them:
            called(standing, failed=10)
        judge(all_of_them, 0.0)
    assert sum(standing.left_out for standing in all_of_them) == 2


def test_it_comes_back_and_stays_out_longer_each_time_it_fails_again() -> None:
    """Up to a bound; intervals without a failure are forgiven one by one."""
    good, bad = Standing(), Standing()
    now_s = 0.0
    for times in range(1, 8):
        called(good, answered=10)
        called(bad, failed=10)
        assert judge([good, bad], now_s) == [bad]
        begun_s, longest_s = now_s, min(times * LEFT_OUT_S, LEFT_OUT_MAX_S)
        while bad.left_out:
            now_s += INTERVAL_S
            judge([good, bad], now_s)
        assert longest_s <= now_s - begun_s < longest_s + INTERVAL_S
    for _ in range(7):
        now_s += INTERVAL_S
        judge([good, bad], now_s)
    called(good, answered=10)
    called(bad, failed=10)
    judge([good, bad], now_s)
    judge([good, bad], now_s + LEFT_OUT_S)
    assert not bad.left_out


def test_the_numbers_are_those_that_channels_of_grpc_are_given() -> None:
    """Whichever channel a call takes, its replicas are judged alike."""
    config = json.loads(service_config("seckill.v1.OrderService", []))
    rules = config["loadBalancingConfig"][0]["outlier_detection_experimental"]
    assert rules["interval"] == f"{INTERVAL_S:g}s"
    assert rules["baseEjectionTime"] == f"{LEFT_OUT_S:g}s"
    assert rules["maxEjectionTime"] == f"{LEFT_OUT_MAX_S:g}s"
    assert rules["maxEjectionPercent"] == 100 * LEFT_OUT_SHARE
    assert rules["failurePercentageEjection"] == {
        "threshold": 100 * FAILED_SHARE,
        "enforcementPercentage": 100,
        "minimumHosts": JUDGED_MIN,
        "requestVolume": CALLS_MIN,
    }
