"""The table of aims: each key with its two figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.sample import Reading, Sample, median


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
        denominator: None where the numerator alone is what counts.
        aim: what it should reach; at least, unless `at_most`.
        what: what is compared, for the table.
    """

    key: str
    aim: float
    numerator: Figure
    denominator: Figure | None
    what: str
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Whether the aim is reached."""
        return value <= self.aim if self.at_most else value >= self.aim

    @property
    def sides(self) -> tuple[Figure, ...]:
        """Numerator and denominator, if there is one."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    def value(self, samples: Mapping[str, Sequence[Sample]]) -> float:
        """Of the medians; KeyError where a side was not measured."""
        below = 1.0 if self.denominator is None else self.denominator.of(samples)
        return self.numerator.of(samples) / below

    def spread(self, samples: Mapping[str, Sequence[Sample]]) -> tuple[float, float]:
        """The lowest and highest value of any one repetition."""
        above = [self.numerator.reading(one) for one in samples[self.numerator.sample]]
        below = [1.0] * len(above)
        if self.denominator is not None:
            below = [self.denominator.reading(one) for one in samples[self.denominator.sample]]
        values = [upper / lower for upper, lower in zip(above, below, strict=False)]
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
    Ratio(
        "purchase_json_vs_echo",
        2.5,
        _per_cpu_s("purchase_json"),
        _ECHO,
        "purchase, JSON through Envoy / echo",
    ),
    Ratio("sold_out_vs_echo", 9.0, _per_cpu_s("sold_out"), _ECHO, "refusal / echo"),
    Ratio("storm_vs_echo", 12.0, _per_cpu_s("storm"), _ECHO, "refusal by Envoy, gRPC / echo"),
    Ratio(
        "storm_json_vs_echo", 8.0, _per_cpu_s("storm_json"), _ECHO, "refusal by Envoy, JSON / echo"
    ),
    Ratio("order_vs_echo", 1.5, _cpu_us("echo"), _cpu_us("order"), "echo / whole order"),
    Ratio(
        "accept_vs_go", 1.2, _per_cpu_s("purchase"), _per_cpu_s("rival_purchase"), "purchase / Go's"
    ),
    Ratio(
        "accept_json_vs_go",
        0.7,
        _per_cpu_s("purchase_json"),
        _per_cpu_s("rival_purchase_json"),
        "purchase, JSON through Envoy / Go's net/http",
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
    Ratio(
        "overload_goodput",
        0.8,
        _rate("overload"),
        _rate("overload_peak"),
        "answered in time at five times the peak / at the peak",
    ),
    Ratio(
        "overload_recovery_s",
        10.0,
        _seconds("recovery"),
        None,
        "seconds until p99 is what it was before the overload",
        at_most=True,
    ),
)


def chosen(keys: Sequence[str]) -> list[Ratio]:
    """The ratios of these keys; all of them where no key is given."""
    return [ratio for ratio in RATIOS if not keys or ratio.key in keys]
