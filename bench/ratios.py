"""The table of aims: each key with its two figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.sample import Reading, Sample, median

NEEDS_ENVOY = "needs Envoy in front of the gateway, which is not part of the mesh yet"


@dataclass(frozen=True)
class Figure:
    """One side of a ratio: which sample, and which figure of it."""

    sample: str
    reading: Reading
    unit: str

    def of(self, samples: Mapping[str, Sequence[Sample]]) -> float:
        """The median over the repetitions; KeyError where it was not measured."""
        return median(samples[self.sample], self.reading)


@dataclass(frozen=True)
class Ratio:
    """A key of the table.

    Attributes:
        aim: what it should reach; at least, unless `at_most`.
        what: what is compared, for the table.
    """

    key: str
    aim: float
    numerator: Figure
    denominator: Figure
    what: str
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Whether the aim is reached."""
        return value <= self.aim if self.at_most else value >= self.aim

    def spread(self, samples: Mapping[str, Sequence[Sample]]) -> tuple[float, float]:
        """The lowest and highest ratio of any one repetition."""
        above, below = samples[self.numerator.sample], samples[self.denominator.sample]
        values = [
            self.numerator.reading(upper) / self.denominator.reading(lower)
            for upper, lower in zip(above, below, strict=False)
        ]
        return min(values), max(values)


def _per_cpu_s(sample: str) -> Figure:
    return Figure(sample, lambda one: one.per_cpu_s, "1/CPU s")


def _rate(sample: str) -> Figure:
    return Figure(sample, lambda one: one.rate_per_s, "1/s")


def _cpu_us(sample: str) -> Figure:
    return Figure(sample, lambda one: one.cpu_us, "µs")


def _p99(sample: str) -> Figure:
    return Figure(sample, lambda one: one.latency_ms["p99"], "ms")


def _seconds(sample: str) -> Figure:
    return Figure(sample, lambda one: one.seconds, "s")


_ECHO = _per_cpu_s("echo")
RATIOS = (
    Ratio("purchase_grpc_vs_echo", 4.5, _per_cpu_s("purchase"), _ECHO, "purchase / echo"),
    Ratio(
        "purchase_rate_vs_echo", 6.0, _rate("purchase"), _rate("echo"), "purchase / echo, one core"
    ),
    Ratio("sold_out_vs_echo", 9.0, _per_cpu_s("sold_out"), _ECHO, "refusal / echo"),
    Ratio("order_vs_echo", 1.5, _cpu_us("echo"), _cpu_us("order"), "echo / whole order"),
    Ratio(
        "accept_vs_go", 1.2, _per_cpu_s("purchase"), _per_cpu_s("rival_purchase"), "purchase / Go's"
    ),
    Ratio("crowd_vs_go", 1.0, _per_cpu_s("crowd"), _per_cpu_s("rival_crowd"), "crowd / Go's"),
    Ratio("polling_vs_get", 5.0, _per_cpu_s("polling"), _ECHO, "GetOrder / echo"),
    Ratio(
        "coalesced_vs_single_cpu",
        7.0,
        _cpu_us("alone"),
        _cpu_us("purchase"),
        "batches of one / coalesced",
    ),
    Ratio(
        "reserve_vs_redis",
        1.0,
        _rate("reserve"),
        _rate("scripts"),
        "BatchReserve / single scripts, pipelined",
    ),
    Ratio("relay_vs_producer", 1.2, _rate("relay"), _rate("producer"), "relay / aiokafka send"),
    Ratio("orders_vs_insert", 0.4, _rate("orders"), _rate("insert"), "consumer / plain INSERT"),
    Ratio(
        "rollback_flatness",
        1.3,
        _seconds("rollback_many"),
        _seconds("rollback_few"),
        "many pending / few pending",
        at_most=True,
    ),
    Ratio(
        "latency_knee",
        1.5,
        _p99("purchase_half"),
        _p99("echo_half"),
        "p99 at 50 % of capacity: purchase / echo",
        at_most=True,
    ),
)
MISSING = dict.fromkeys(
    ("purchase_json_vs_echo", "storm_vs_echo", "storm_json_vs_echo", "accept_json_vs_go"),
    NEEDS_ENVOY,
)


def chosen(keys: Sequence[str]) -> list[Ratio]:
    """The ratios of these keys; all of them where no key is given."""
    return [ratio for ratio in RATIOS if not keys or ratio.key in keys]
