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
        """The median over the repetitions; KeyError if it was not measured."""
        return median(samples[self.sample], self.reading)


@dataclass(frozen=True)
class Ratio:
    """A key of the table.

    Attributes:
        denominator: None if the numerator alone is what counts.
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
        """Of the medians; KeyError if a side was not measured."""
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


def _busy(sample: str) -> Figure:
    return Figure(sample, lambda one: 1000 * sum(one.cpu_s.values()) / one.seconds, "ms/s")


def _goodput(door: str, key: str, aims: Sequence[float], where: str) -> list[Ratio]:
    return [
        Ratio(
            f"{key}_{times}x",
            aim,
            _rate(f"{door}_{times}x"),
            _rate(f"{door}_peak"),
            f"answered in time at {times} times the peak of {where} / at the peak",
        )
        for times, aim in zip((2, 5, 10), aims, strict=True)
    ]


def _meanwhile(door: str, where: str) -> list[Ratio]:
    """What else is asked of every overload; the figures are the worst, or the sum, of its steps."""
    answered = Figure(
        f"{door}_pays", lambda one: one.statuses.get("OK", 0) / one.calls, "of pays and polls"
    )
    closed = Figure(f"{door}_closed", lambda one: one.reconnects, "connections")
    return [
        Ratio(
            f"{door}_p99_ms",
            400.0,
            _p99(f"{door}_answered"),
            None,
            f"p99 of what is answered in the overload{where}",
            at_most=True,
        ),
        Ratio(
            f"{door}_pays_answered",
            0.99,
            answered,
            None,
            f"pays and polls answered meanwhile{where}",
        ),
        Ratio(
            f"{door}_connections_closed",
            0.0,
            closed,
            None,
            f"connections closed by the server meanwhile{where}",
            at_most=True,
        ),
    ]


_ECHO = _per_cpu_s("echo")
RATIOS = (
    Ratio("purchase_grpc_vs_echo", 4.0, _per_cpu_s("purchase"), _ECHO, "purchase / echo"),
    Ratio(
        "purchase_rate_vs_echo", 5.0, _rate("purchase"), _rate("echo"), "purchase / echo, one core"
    ),
    Ratio(
        "peak_vs_base",
        1.7,
        _rate("purchase"),
        _rate("base_purchase"),
        "purchases a second on one core / those of the release before the front",
    ),
    Ratio(
        "purchase_json_vs_echo",
        1.0,
        _per_cpu_s("purchase_json"),
        _ECHO,
        "purchase, JSON through Envoy / echo",
    ),
    Ratio(
        "purchase_json_door_vs_echo",
        2.2,
        _per_cpu_s("purchase_json_door"),
        _ECHO,
        "purchase, the gateway's own JSON / echo",
    ),
    Ratio("sold_out_vs_echo", 9.0, _per_cpu_s("sold_out"), _ECHO, "refusal / echo"),
    Ratio("storm_vs_echo", 12.0, _per_cpu_s("storm"), _ECHO, "refusal by Envoy, gRPC / echo"),
    Ratio(
        "storm_json_vs_echo", 8.0, _per_cpu_s("storm_json"), _ECHO, "refusal by Envoy, JSON / echo"
    ),
    Ratio("order_vs_echo", 2.2, _cpu_us("echo"), _cpu_us("order"), "echo / whole order"),
    Ratio(
        "accept_vs_go", 1.0, _per_cpu_s("purchase"), _per_cpu_s("rival_purchase"), "purchase / Go's"
    ),
    Ratio(
        "accept_json_vs_go",
        0.7,
        _per_cpu_s("purchase_json"),
        _per_cpu_s("rival_purchase_json"),
        "purchase, JSON through Envoy / Go's net/http",
    ),
    Ratio(
        "accept_json_door_vs_go",
        0.8,
        _per_cpu_s("purchase_json_door"),
        _per_cpu_s("rival_purchase_json"),
        "purchase, the gateway's own JSON / Go's net/http",
    ),
    Ratio("crowd_vs_go", 0.9, _per_cpu_s("crowd"), _per_cpu_s("rival_crowd"), "crowd / Go's"),
    Ratio("polling_vs_get", 5.0, _per_cpu_s("polling"), _ECHO, "GetOrder / echo"),
    Ratio(
        "coalesced_vs_single_cpu",
        7.0,
        _cpu_us("alone"),
        _cpu_us("purchase"),
        "batches of one / coalesced",
    ),
    Ratio(
        "traces_on_cost",
        1.02,
        _cpu_us("traces_on"),
        _cpu_us("traces_off"),
        "purchase with traces at the default share / without",
        at_most=True,
    ),
    Ratio(
        "traces_off_cost",
        1.01,
        _cpu_us("traces_off"),
        _cpu_us("traces_before"),
        "purchase without traces / before there were any",
        at_most=True,
    ),
    Ratio(
        "reserve_vs_redis",
        1.0,
        _rate("reserve"),
        _rate("scripts"),
        "BatchReserve / single scripts, pipelined",
    ),
    Ratio("relay_vs_producer", 2.0, _rate("relay"), _rate("producer"), "relay / aiokafka send"),
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
        "idle_sales",
        1.3,
        _busy("idle_closed"),
        _busy("idle_one"),
        "CPU of 1,000 closed sales / of one",
        at_most=True,
    ),
    Ratio(
        "idle_open_sales",
        1.3,
        _busy("idle_open"),
        _busy("idle_one"),
        "CPU of 1,000 open sales that nobody buys from / of one",
        at_most=True,
    ),
    Ratio(
        "latency_knee",
        2.0,
        _p99("purchase_half"),
        _p99("echo_half"),
        "p99 at 50 % of capacity: purchase / echo",
        at_most=True,
    ),
    Ratio(
        "lone_purchase_us",
        500.0,
        _cpu_us("lone"),
        None,
        "CPU of a purchase at 5 % of capacity",
        at_most=True,
    ),
    *_goodput("overload", "overload_goodput", (0.9, 0.65, 0.4), "the gateway"),
    Ratio(
        "overload_goodput_5x_hints",
        0.65,
        _rate("overload_hints_5x"),
        _rate("overload_peak"),
        "the same at 5 times, by callers who wait as long as they are told",
    ),
    Ratio(
        "overload_goodput_5x_at_once",
        0.4,
        _rate("overload_at_once_5x"),
        _rate("overload_peak"),
        "the same at 5 times, by callers who repeat once at once",
    ),
    *_goodput("overload_edge_grpc", "overload_edge_grpc", (0.9, 0.6, 0.3), "the edge, gRPC"),
    *_goodput("overload_edge_json", "overload_edge_json", (0.9, 0.6, 0.3), "the edge, JSON"),
    *(
        one
        for door, where in (
            ("overload", ""),
            ("overload_edge_grpc", " through the edge, gRPC"),
            ("overload_edge_json", " through the edge, JSON"),
        )
        for one in _meanwhile(door, where)
    ),
    Ratio(
        "refusal_share",
        0.06,
        _cpu_us("overload_refusal"),
        _cpu_us("overload_peak"),
        "CPU of a refusal at ten times the peak / of a purchase at the peak",
        at_most=True,
    ),
    Ratio(
        "overload_recovery_s",
        2.0,
        _seconds("recovery"),
        None,
        "seconds until p99 is what it was before the overload",
        at_most=True,
    ),
)


def chosen(keys: Sequence[str]) -> list[Ratio]:
    """The ratios of these keys; all of them if no key is given."""
    return [ratio for ratio in RATIOS if not keys or ratio.key in keys]
