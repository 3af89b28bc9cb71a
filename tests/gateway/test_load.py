"""Admission by time: what is predicted from the rate of answers, with a clock of the test's own."""

import math

import pytest

from gateway.front.load import BUSY_MIN, HANDLED_MIN, TICK_S, TimedAdmission

CALLS_MAX = 10_000


def admission() -> TimedAdmission:
    """With the gateway's own defaults."""
    return TimedAdmission(calls_max=CALLS_MAX, wait_share=0.2, wait_max_s=2.0, ahead_s=0.1)


def busy(rate_per_s: float, *, in_flight: int = 1_000, seconds: float = 3.0) -> TimedAdmission:
    """One that has been busy for a while and answered so many calls a second."""
    made = admission()
    made.in_flight = in_flight
    for tick in range(int(seconds / TICK_S)):
        made.answered = int(tick * TICK_S * rate_per_s)
        made.tick(tick * TICK_S)
    return made


def test_the_wait_is_the_calls_in_flight_at_the_measured_rate() -> None:
    """A thousand calls at ten thousand a second wait a tenth of one."""
    assert busy(10_000).wait_s == pytest.approx(0.1, rel=0.05)


def test_a_call_is_refused_by_a_share_of_its_own_deadline() -> None:
    """0.3 s of work: too long for a second, short enough for two."""
    loaded = busy(10_000, in_flight=3_000)
    assert loaded.refuses(1.0)
    assert not loaded.refuses(2.0)
    assert not loaded.refuses(math.inf)


def test_calls_are_refused_undecoded_before_each_of_them_would_be() -> None:
    """0.16 s of work: what is let in is at most seven tenths of what a decoded call may wait."""
    loaded = busy(10_000, in_flight=1_600)
    assert loaded.refuses_all(1.0)
    assert not loaded.refuses(1.0)
    assert not loaded.refuses_all(2.0)
    assert not busy(10_000, in_flight=1_200).refuses_all(1.0)


def test_connections_of_the_refused_rest_for_less_time_than_there_is_work() -> None:
    """A third of the wait, and 50 ms at most."""
    assert busy(10_000, in_flight=300).rest_s == pytest.approx(0.01, rel=0.05)
    assert busy(10_000, in_flight=9_000).rest_s == 0.05
    assert admission().rest_s == 0


def test_no_deadline_is_long_enough_for_the_longest_wait() -> None:
    """Two seconds of work and more are refused to the most patient caller."""
    loaded = busy(1_000, in_flight=2_500)
    assert loaded.refuses(math.inf)


def test_nothing_is_refused_before_a_rate_is_known_or_while_few_are_in_flight() -> None:
    """But for the number of calls, which bounds the memory."""
    fresh = admission()
    fresh.in_flight = CALLS_MAX - 1
    assert not fresh.refuses(0.1)
    fresh.in_flight = CALLS_MAX
    assert fresh.refuses(math.inf)
    hung = busy(10, in_flight=1_000)
    hung.in_flight = BUSY_MIN - 1
    assert not hung.refuses(0.1)


def test_idle_time_does_not_make_the_gateway_look_slow() -> None:
    """An hour with a call a second leaves the rate where the crowd had brought it."""
    made = busy(10_000)
    before = made.seconds_a_call
    made.in_flight = 0
    made.tick(3.0)
    for tick in range(1, 200):
        made.answered += 1
        made.tick(3.0 + tick * TICK_S)
    assert made.seconds_a_call == before


def test_a_service_that_stops_answering_is_noticed_within_a_second() -> None:
    """Everything is refused then, and let in again soon after it answers."""
    made = busy(10_000)
    for tick in range(int(1.0 / TICK_S)):
        made.tick(3.0 + tick * TICK_S)
    assert made.refuses(1.0)
    for tick in range(int(1.0 / TICK_S)):
        made.answered += int(10_000 * TICK_S)
        made.tick(4.0 + tick * TICK_S)
    assert not made.refuses(1.0)


def test_the_handlers_hold_a_tenth_of_a_second_of_work_and_never_too_little_for_a_batch() -> None:
    """At 50,000 a second 5,000 calls; a slow service still gets its batches."""
    assert busy(50_000).room(0) == pytest.approx(5_000, rel=0.05)
    assert busy(1_000).room(0) == HANDLED_MIN
    assert admission().room(0) == CALLS_MAX


def test_the_refusal_names_the_wait_and_the_urgent_count_only_what_is_before_them() -> None:
    """Half a second of work: for one who goes first there is nothing to wait for."""
    loaded = busy(10_000, in_flight=5_000)
    assert loaded.retry_wait_s(9.0) == pytest.approx(0.5, rel=0.05)
    assert not loaded.refuses(1.0, ahead=10)
    assert admission().retry_wait_s(0.7) == 0.7


def test_who_is_refused_is_told_a_turn_after_all_who_were_refused_before() -> None:
    """Four times too many for a second: those refused last are told 4 s more than the first; once
    fewer come, the wait falls by a second a second.
    """
    loaded = busy(10_000)
    now_s = 3.0

    def pass_time(seconds: float, *, refused_per_s: int) -> None:
        nonlocal now_s
        for _ in range(int(seconds / TICK_S)):
            now_s += TICK_S
            loaded.answered += int(10_000 * TICK_S)
            loaded.refused += int(refused_per_s * TICK_S)
            loaded.tick(now_s)

    pass_time(1.0, refused_per_s=50_000)
    assert loaded.retry_wait_s(9.0) == pytest.approx(4.1, rel=0.05)
    pass_time(2.0, refused_per_s=0)
    assert loaded.retry_wait_s(9.0) == pytest.approx(2.1, rel=0.05)
    pass_time(5.0, refused_per_s=0)
    assert loaded.retry_wait_s(9.0) == pytest.approx(0.1, rel=0.05)


def test_no_refusal_names_more_than_five_seconds() -> None:
    """However many were refused, and for however long."""
    loaded = busy(1_000, in_flight=200)
    loaded.refused = 1_000_000
    loaded.answered += 50
    loaded.tick(3.0)
    assert loaded.retry_wait_s(9.0) == 5.0
    loaded.answered += 2_000
    loaded.tick(5.0)
    assert loaded.retry_wait_s(9.0) == pytest.approx(3.2, rel=0.05)


def test_a_call_that_was_let_in_waits_a_fifth_longer_at_most() -> None:
    """0.24 s of a deadline of one second; 2.4 seconds at most."""
    made = admission()
    assert made.patience_s(1.0) == pytest.approx(0.24)
    assert made.patience_s(math.inf) == pytest.approx(2.4)
