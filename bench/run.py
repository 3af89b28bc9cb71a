"""One run: every measurement in turn, again and again, then the few that are taken once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.measures import (
    follow,
    idle,
    latency,
    overload,
    parts,
    public,
    purchases,
    rollback,
    traces,
)
from bench.measures.offering import name_of
from bench.ratios import Ratio
from bench.sample import Sample, median
from bench.world import World

# Multiples of the peak that ratios are made of.
TIMES = (2.0, 5.0, 10.0)
Measure = Callable[[World], dict[str, Sample]]


@dataclass(frozen=True)
class Step:
    """A measurement, and the samples that it gives.

    Attributes:
        guarded: it sees itself to it that the machine is quiet.
    """

    measure: Measure
    gives: frozenset[str]
    guarded: bool = False


# Within a repetition in this order: what is compared stands side by side.
STEPS = (
    Step(purchases.echo, frozenset({"echo"})),
    Step(purchases.purchase, frozenset({"issue", "purchase", "order"})),
    Step(purchases.base_purchase, frozenset({"base_purchase"})),
    Step(purchases.rival_purchase, frozenset({"rival_purchase"})),
    Step(public.purchase_json, frozenset({"purchase_json"})),
    Step(public.purchase_json_door, frozenset({"purchase_json_door"})),
    Step(public.rival_json, frozenset({"rival_purchase_json"})),
    Step(public.storm, frozenset({"storm", "storm_json"})),
    Step(purchases.sold_out, frozenset({"sold_out", "sold_out_once"})),
    Step(purchases.polling, frozenset({"polling"})),
    Step(purchases.alone, frozenset({"alone"})),
    Step(parts.deciding, frozenset({"reserve", "scripts"})),
    Step(parts.moving, frozenset({"relay", "orders"})),
    Step(parts.producing, frozenset({"producer"})),
    Step(parts.inserting, frozenset({"insert"})),
    Step(latency.half, frozenset({"echo_half", "purchase_half"})),
    Step(latency.lone, frozenset({"lone"})),
)
CROWD_STEPS = (
    Step(purchases.crowd, frozenset({"crowd"})),
    Step(purchases.rival_crowd, frozenset({"rival_crowd"})),
)
# No ratio is made of these.
FURTHER_STEPS = (
    Step(latency.curve, frozenset(latency.CURVE_SAMPLES)),
    Step(follow.follow, frozenset({"visible", "paid"})),
    Step(overload.grpcio, frozenset({"overload_grpcio_peak"}), guarded=True),
    Step(overload.rival, frozenset({"overload_rival_peak"}), guarded=True),
)
OVERLOAD_STEPS = tuple(
    Step(
        measure,
        frozenset(
            {
                *(name_of(door, times) for times in TIMES),
                *(f"{door}_{one}" for one in ("peak", "answered", "closed", "pays", *further)),
                *(("recovery",) if further else ()),
            }
        ),
        guarded=True,
    )
    for measure, door, further in (
        (overload.gateway, "overload", ("refusal", "hints_5x", "at_once_5x")),
        (overload.edge, "overload_edge_grpc", ()),
        (overload.edge_json, "overload_edge_json", ()),
    )
)
# Takes its turns itself.
TRACES = Step(traces.traces, frozenset(traces.DATABASES))
IDLE = Step(idle.idle, frozenset({"idle_one", "idle_open", "idle_closed"}))
ONCE_STEPS = (*OVERLOAD_STEPS, TRACES, IDLE)
ROLLBACK = frozenset({"rollback_few", "rollback_many"})
# Found by closed loops; shares of it are what open loops offer.
CAPACITY = frozenset({"echo", "purchase"})
SHARES_OF_CAPACITY = frozenset({"echo_half", "purchase_half", "lone"})


@dataclass
class Findings:
    """What a run has found.

    Attributes:
        samples: by name, one for each repetition.
        failures: by the name of a sample, why there is none.
        unfit: by the name of a sample of which no repetition is fit, why.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)

    def capacity(self) -> dict[str, float]:
        """Calls a second of a closed loop, for those that were measured in one."""
        names = CAPACITY & self.samples.keys()
        return {name: median(self.samples[name], lambda one: one.rate_per_s) for name in names}

    def leave_unfit_out(self) -> None:
        """Keep the repetitions that are fit; if there is none, all, and say so."""
        for name, samples in self.samples.items():
            fit = [one for one in samples if not one.unfit]
            if fit:
                self.samples[name] = fit
            else:
                self.unfit[name] = samples[-1].unfit


def needed(ratios: Sequence[Ratio]) -> frozenset[str]:
    """Samples that these ratios are made of."""
    wanted = {side.sample for ratio in ratios for side in ratio.sides}
    return frozenset(wanted | (CAPACITY if wanted & SHARES_OF_CAPACITY else set()))


class Run:
    """Measures what some ratios need."""

    def __init__(
        self, world: World, ratios: Sequence[Ratio], *, say: Callable[[str], None]
    ) -> None:
        """`say`: told what is being done."""
        self.findings = Findings()
        self._world = world
        self._names = needed(ratios)
        self._say = world.quiet.say = say
        self._begun_s = time.monotonic()

    def measure(self, *, further: bool) -> Findings:
        """Everything; `further`: also what no ratio is made of."""
        sizes = self._world.sizes
        until_s = sizes.repeat_until_s
        self._repeat(STEPS, sizes.repetitions, until_s=until_s)
        self._repeat(CROWD_STEPS, sizes.crowd_repetitions, until_s=1.5 * until_s)
        once = [step for step in ONCE_STEPS if step.gives & self._names]
        for step in (*once, *(FURTHER_STEPS if further else ())):
            self._take(step, "once")
        # Last: the million orders that wait stay in the database.
        if self._names & ROLLBACK:
            self._say("rollback")
            self._try(ROLLBACK, lambda: rollback.flatness(self._world))
        self.findings.leave_unfit_out()
        return self.findings

    def _repeat(self, steps: Sequence[Step], times: int, *, until_s: float) -> None:
        wanted = [step for step in steps if step.gives & self._names]
        for turn in range(1, times + 1):
            if turn > 1 and time.monotonic() - self._begun_s > until_s:
                return
            for step in wanted:
                self._take(step, f"{turn}/{times}")

    def _take(self, step: Step, turn: str) -> None:
        self._say(f"{turn} {step.measure.__name__}")
        self._world.lower_behind()

        def measure() -> dict[str, list[Sample]]:
            found = (
                step.measure(self._world)
                if step.guarded
                else self._world.quiet.measure(lambda: step.measure(self._world))
            )
            return {name: [one] for name, one in found.items()}

        self._try(step.gives, measure)
        self._world.capacity = self.findings.capacity()

    def _try(
        self, gives: frozenset[str], measure: Callable[[], Mapping[str, list[Sample]]]
    ) -> None:
        """One failure costs its own figures, not the run."""
        start_s = time.monotonic()
        try:
            for name, some in measure().items():
                self.findings.samples.setdefault(name, []).extend(some)
        except Exception as error:  # noqa: BLE001 - whatever it was, the others can be measured
            took_s = time.monotonic() - start_s
            reason = f"{type(error).__name__} after {took_s:.0f} s: {error}"
            self._say(reason)
            self.findings.failures.update(dict.fromkeys(gives, reason))
