"""What one interval of one measurement saw, and medians over several."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


class InvalidSample(Exception):
    """A measurement did not measure what it is meant to; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One interval.

    Attributes:
        calls: calls, orders or entries dealt with.
        seconds: how long that took.
        cpu_s: seconds of CPU by process.
        statuses, outcomes: calls by gRPC status, and by what was answered.
        latency_ms: by "p50", "p95", "p99", "p99.9", "max".
        reconnects: connections that the server has closed, if that is counted.
        held_back: calls that were due and never sent, because there was no room for them.
        starved: the same, because the generator had no time for them.
        repeated: refused calls that were sent again.
        good_s: from the start to the last answer that was OK.
        generator: the share of its cores that the load generator used, 0 to 1.
        unfit: why the figures are not to be trusted; empty if they are.
    """

    calls: int
    seconds: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    reconnects: int = 0
    held_back: int = 0
    starved: int = 0
    repeated: int = 0
    good_s: float = 0.0
    generator: float = 0.0
    unfit: str = ""

    @property
    def rate_per_s(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a call, over all its processes."""
        return sum(self.cpu_s.values()) / max(1, self.calls) * 1e6

    @property
    def per_cpu_s(self) -> float:
        """Calls a second of CPU, over all its processes."""
        return self.calls / (sum(self.cpu_s.values()) or math.inf)

    def require(self, *, outcome: str | None = None, least: float = 0.999) -> "Sample":
        """Return this sample if nearly all calls were answered as they should have been.

        Raises:
            InvalidSample: they were not; says how they were answered.
        """
        good = self.statuses.get("OK", 0) if outcome is None else self.outcomes.get(outcome, 0)
        if good < least * self.calls:
            raise InvalidSample(
                f"{good} of {self.calls} calls ended with {outcome or 'OK'}:"
                f" {dict(self.statuses)}, {dict(self.outcomes)}"
            )
        return self


Reading = Callable[[Sample], float]


def median(samples: Sequence[Sample], reading: Reading) -> float:
    """The median of one figure over the repetitions."""
    return statistics.median(reading(sample) for sample in samples)


def median_by_key(samples: Sequence[Sample], name: str, *, scale: float = 1.0) -> dict[str, float]:
    """Medians of a mapping's values, e.g. of `latency_ms`, each times `scale`."""
    keys = {key: None for sample in samples for key in getattr(sample, name)}
    return {
        key: scale * statistics.median(getattr(sample, name).get(key, 0.0) for sample in samples)
        for key in keys
    }


def median_cpu_us(samples: Sequence[Sample]) -> dict[str, float]:
    """Median microseconds of CPU a call, by process."""
    keys = {key: None for sample in samples for key in sample.cpu_s}
    return {
        key: statistics.median(
            sample.cpu_s.get(key, 0.0) / max(1, sample.calls) * 1e6 for sample in samples
        )
        for key in keys
    }
