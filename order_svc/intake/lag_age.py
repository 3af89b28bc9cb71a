"""How old the oldest reservation event that waits may be, by partition. Pure."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from order_svc.intake.log_guard import Batches


class LagAge:
    """Bounds the age of what waits by what is known to be done.

    What waits in a partition is younger than the last event processed of it, and than the moment
    at which nothing waited there. A partition of which neither is known counts from when its lag
    was first seen.
    """

    def __init__(self) -> None:
        # Partition → Unix time in seconds.
        self._done_s: dict[TopicPartition, float] = {}
        self._first_seen_s: dict[TopicPartition, float] = {}

    def note(self, found: Batches) -> None:
        """Note batches that have been processed."""
        for partition, batch in found.items():
            self._note(partition, batch[-1].timestamp / 1000)

    def measure(self, lags: Mapping[TopicPartition, int], *, now_s: float) -> float:
        """Return the age at most of the oldest event that waits, in seconds; 0 without one.

        Args:
            lags: events that wait, by assigned partition; others are forgotten.
        """
        for seen in (self._done_s, self._first_seen_s):
            for gone in seen.keys() - lags.keys():
                del seen[gone]
        oldest_s = now_s
        for partition, lag in lags.items():
            if lag == 0:
                self._note(partition, now_s)
                continue
            first_s = self._first_seen_s.setdefault(partition, now_s)
            oldest_s = min(oldest_s, self._done_s.get(partition, first_s))
        return now_s - oldest_s

    def _note(self, partition: TopicPartition, done_s: float) -> None:
        self._done_s[partition] = max(done_s, self._done_s.get(partition, done_s))
