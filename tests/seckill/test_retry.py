"""Steps that are repeated until they succeed."""

from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from seckill.errors import DependencyUnavailable, SaleNotFound
from seckill.runtime.retry import until_success


async def test_a_step_is_repeated_until_it_succeeds_and_each_failure_is_logged_once() -> None:
    """Pauses double from the first to the longest, with jitter; the log says which step and why."""
    runs = 0
    with capture_logs() as logs:
        async for attempt in until_success(
            "relay", on=DependencyUnavailable, wait_min_s=0.01, wait_max_s=0.05
        ):
            with attempt:
                runs += 1
                if runs < 6:
                    raise DependencyUnavailable("kafka does not answer")
    assert runs == 6
    assert [line["failures"] for line in logs] == [1, 2, 3, 4, 5]
    for line in logs:
        assert (line["event"], line["step"]) == ("step failed", "relay")
        assert line["error"] == "kafka does not answer"
    pauses = [line["retry_after_s"] for line in logs]
    assert 0.01 <= pauses[0] <= 0.02
    assert all(before <= after for before, after in pairwise(pauses[::2]))
    assert pauses[-1] == 0.05


async def test_any_other_failure_is_raised_at_once() -> None:
    """A fault that a repetition cannot heal is not repeated."""
    runs = 0

    async def run() -> None:
        nonlocal runs
        async for attempt in until_success(
            "relay", on=DependencyUnavailable, wait_min_s=0.01, wait_max_s=0.05
        ):
            with attempt:
                runs += 1
                raise SaleNotFound

    with pytest.raises(SaleNotFound):
        await run()
    assert runs == 1
