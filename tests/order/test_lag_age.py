"""The age of what waits is bounded by what is done, partition by partition."""

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from order_svc.intake.lag_age import LagAge

FIRST, SECOND = TopicPartition("orders", 0), TopicPartition("orders", 1)


def batch(*written_s: float) -> list[Any]:
    """Records that were written at these times."""
    return [SimpleNamespace(timestamp=int(at_s * 1000)) for at_s in written_s]


def test_nothing_that_waits_has_no_age() -> None:
    """However long ago the last event was."""
    age = LagAge()
    age.note({FIRST: batch(100.0)})
    assert age.measure({FIRST: 0}, now_s=5_000.0) == 0


def test_what_waits_is_younger_than_what_was_read_last() -> None:
    """A partition is read in order; the one that is furthest behind counts."""
    age = LagAge()
    age.note({FIRST: batch(90.0, 100.0), SECOND: batch(104.0)})
    assert age.measure({FIRST: 3, SECOND: 1}, now_s=110.0) == 10.0
    age.note({FIRST: batch(109.0)})
    assert age.measure({FIRST: 1, SECOND: 1}, now_s=110.0) == 6.0


def test_an_event_after_an_idle_hour_is_not_an_hour_old() -> None:
    """Nothing waited when the lag was measured last."""
    age = LagAge()
    age.note({FIRST: batch(100.0)})
    age.measure({FIRST: 0}, now_s=3_700.0)
    assert age.measure({FIRST: 1}, now_s=3_701.0) == 1.0


def test_a_backlog_that_nobody_reads_ages_from_when_it_was_seen() -> None:
    """As with a database that is away from the start; partitions of others are forgotten."""
    age = LagAge()
    assert age.measure({FIRST: 5}, now_s=100.0) == 0.0
    assert age.measure({FIRST: 5}, now_s=130.0) == 30.0
    assert age.measure({SECOND: 0}, now_s=131.0) == 0.0
    assert age.measure({FIRST: 5}, now_s=140.0) == 0.0
