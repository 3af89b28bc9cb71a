"""The pace of consuming, on a clock of the test's own."""

from order_svc.intake.rate_limiter import ConsumeRateLimiter


class HandClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s


def test_without_a_rate_nothing_waits() -> None:
    """Zero does not limit."""
    pace = ConsumeRateLimiter(0, HandClock())
    pace.record(1_000_000)
    assert (pace.batch_max(500), pace.wait_s()) == (500, 0.0)


def test_waits_are_what_the_rate_asks_for() -> None:
    """Ten seconds of full batches take a thousand messages at a hundred a second."""
    clock = HandClock()
    pace = ConsumeRateLimiter(100, clock)
    read = 0
    while clock.time_s < 110.0:
        clock.time_s += pace.wait_s()
        count = pace.batch_max(1_000)
        assert count == 100
        pace.record(count)
        read += count
    assert 1_000 <= read <= 1_100
    assert pace.wait_s() <= 1.0


def test_quiet_time_is_not_saved_up() -> None:
    """After an hour without messages the next second is like any other."""
    clock = HandClock()
    pace = ConsumeRateLimiter(100, clock)
    clock.time_s += 3_600
    pace.record(100)
    assert pace.wait_s() == 1.0
