"""How many records a Kafka batch may have, learned from what each topic refuses."""

import time

import structlog

# A topic whose batches had to be made smaller is tried with larger ones again after this.
GROWTH_INTERVAL_S = 60.0
log = structlog.get_logger()


class BatchLimits:
    """The most records in a batch, by topic.

    Kafka tells no limit, only that a batch was above it: `max.message.bytes` of the topic, or the
    size of a segment. So the number is halved from there, and doubled once a minute.
    """

    def __init__(self, records_max: int) -> None:
        """`records_max`: for a topic that has refused nothing."""
        self._records_max = records_max
        # Topic → (limit, time.monotonic() at which it is doubled).
        self._lowered: dict[str, tuple[int, float]] = {}

    def records_max(self, topic: str) -> int:
        """Return how many records a batch for this topic may have now."""
        records, doubles_s = self._lowered.get(topic, (self._records_max, 0.0))
        if topic in self._lowered and time.monotonic() >= doubles_s:
            records = min(2 * records, self._records_max)
            self._lower(topic, records)
        return records

    def halve(self, topic: str, *, refused: int) -> None:
        """Note that a batch of `refused` records, at least 2, was too large."""
        log.warning("kafka refused a record batch as too large", topic=topic, records=refused)
        self._lower(topic, min(refused // 2, self.records_max(topic)))

    def reset(self, topic: str) -> None:
        """Forget what was learned: single records were too large, not the batches."""
        self._lowered.pop(topic, None)

    def _lower(self, topic: str, records: int) -> None:
        self._lowered[topic] = records, time.monotonic() + GROWTH_INTERVAL_S
