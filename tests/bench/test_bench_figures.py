"""The arithmetic of the benchmark: shares, medians, ratios, and what makes a sample unfit."""

import dataclasses
import time

import pytest

from bench.cores import Disturbance
from bench.edge import require_own
from bench.measures.overload import refusal_cost
from bench.measures.remarks import generator_fault
from bench.quiet import REPEATS_MAX, Quiet, reason
from bench.ratios import RATIOS, Figure, Ratio
from bench.run import CROWD_STEPS, ONCE_STEPS, ROLLBACK, STEPS, Findings, needed
from bench.sample import InvalidSample, Sample, median, median_cpu_us


def sample_of(*, calls: int = 1_000, seconds: float = 1.0, cpu_s: float = 0.5) -> Sample:
    """A sample of one process."""
    return Sample(
        calls=calls,
        seconds=seconds,
        cpu_s={"gateway": cpu_s},
        statuses={"OK": calls},
        outcomes={"RESERVED": calls - 10, "SOLD_OUT": 10},
    )


def ratio_of(*, aim: float, at_most: bool) -> Ratio:
    """Rates of `upper` over those of `lower`."""

    def rate(name: str) -> Figure:
        return Figure(name, lambda one: one.rate_per_s, "1/s")

    return Ratio("key", aim, rate("upper"), rate("lower"), "upper / lower", at_most=at_most)


def test_cost_adds_all_processes() -> None:
    """A call costs what all of its processes have used."""
    sample = Sample(calls=1_000, seconds=2.0, cpu_s={"gateway": 0.03, "redis": 0.01})
    assert sample.rate_per_s == 500
    assert sample.cpu_us == pytest.approx(40)
    assert sample.per_cpu_s == pytest.approx(25_000)


def test_samples_with_other_answers_are_unfit() -> None:
    """Refusals must not pass for purchases, nor errors for answers."""
    sample = sample_of()
    assert sample.require() is sample
    assert sample.require(outcome="RESERVED", least=0.99) is sample
    with pytest.raises(InvalidSample, match="990 of 1000 calls ended with RESERVED"):
        sample.require(outcome="RESERVED")


def test_medians_ignore_one_bad_repetition() -> None:
    """One repetition that was disturbed does not move the figure."""
    samples = [sample_of(cpu_s=cost) for cost in (0.5, 9.0, 0.6)]
    assert median(samples, lambda one: one.cpu_us) == pytest.approx(600)
    assert median_cpu_us(samples) == {"gateway": pytest.approx(600)}


def test_spread_compares_within_repetitions() -> None:
    """Lowest and highest come from what was measured side by side."""
    samples = {
        "upper": [sample_of(calls=100), sample_of(calls=900)],
        "lower": [sample_of(calls=100), sample_of(calls=300)],
    }
    assert ratio_of(aim=2, at_most=False).spread(samples) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("at_most", "value", "reached"),
    [(False, 2.0, True), (False, 1.9, False), (True, 2.0, True), (True, 2.1, False)],
)
def test_aims_are_bounds_of_either_kind(at_most: bool, value: float, reached: bool) -> None:
    """Most aims are to be reached, some are not to be exceeded."""
    assert ratio_of(aim=2, at_most=at_most).reached(value) is reached


def test_a_figure_may_stand_alone() -> None:
    """Without a denominator the numerator is what is compared with the aim."""
    seconds = Figure("only", lambda one: one.seconds, "s")
    alone = Ratio("key", 10, seconds, None, "seconds", at_most=True)
    samples = {"only": [sample_of(seconds=2.0), sample_of(seconds=4.0), sample_of(seconds=3.0)]}
    assert alone.value(samples) == pytest.approx(3.0)
    assert alone.spread(samples) == (2.0, 4.0)


def test_refusals_that_were_passed_on_are_unfit() -> None:
    """What the gateway has answered must not pass for Envoy's own answers."""
    require_own(calls=10_000, passed_on=10)
    with pytest.raises(InvalidSample, match="11 of 10000 calls were passed on"):
        require_own(calls=10_000, passed_on=11)


def test_half_loads_need_the_capacity() -> None:
    """Who asks for one key gets what that key is made of, and no more."""
    by_key = {ratio.key: ratio for ratio in RATIOS}
    assert len(by_key) == len(RATIOS)
    assert needed([by_key["storm_vs_echo"]]) == {"storm", "echo"}
    assert needed([by_key["overload_recovery_s"]]) == {"recovery"}
    half = {"purchase_half", "echo_half", "purchase", "echo"}
    assert needed([by_key["latency_knee"]]) == half
    assert needed([by_key["lone_purchase_us"]]) == {"lone", "purchase", "echo"}


def test_every_sample_of_a_ratio_is_given_by_a_step() -> None:
    """Else its row would say for ever that it was not measured."""
    given = {name for step in (*STEPS, *CROWD_STEPS, *ONCE_STEPS) for name in step.gives}
    assert needed(RATIOS) <= given | ROLLBACK


def test_unfit_repetitions_do_not_count() -> None:
    """What was measured while others were busy is left out, as long as anything is left."""
    busy = dataclasses.replace(sample_of(), unfit="others had 1.00 cores")
    findings = Findings(samples={"echo": [busy, sample_of(calls=5)], "storm": [busy, busy]})
    findings.leave_unfit_out()
    assert findings.samples == {"echo": [sample_of(calls=5)], "storm": [busy, busy]}
    assert findings.unfit == {"storm": "others had 1.00 cores"}


def test_a_busy_machine_makes_samples_unfit() -> None:
    """Others' work and stolen time beyond the bounds are named; what lies below is not."""
    assert reason(Disturbance(others=0.05, steal=0.01)) == ""
    assert "0.50 cores" in reason(Disturbance(others=0.5, steal=0.0))
    assert "stolen" in reason(Disturbance(others=0.0, steal=0.2))


def test_unfit_measurements_are_repeated_within_bounds() -> None:
    """A measurement that is never fit is taken three times, or once when no time is left."""
    taken: list[int] = []

    def measure() -> dict[str, Sample]:
        taken.append(1)
        time.sleep(0.01)
        return {"one": dataclasses.replace(sample_of(), unfit="the generator was starved")}

    assert Quiet(60.0).measure(measure)["one"].unfit
    assert len(taken) == 1 + REPEATS_MAX
    taken.clear()
    assert Quiet(0.0).measure(measure)["one"].unfit
    assert len(taken) == 1


def test_what_was_refused_costs_what_the_good_calls_leave() -> None:
    """The cost of a refusal is that of everything, less the good calls at the peak's cost."""
    peak = Sample(calls=1_000, seconds=1.0, cpu_s={"gateway": 0.04, "redis": 0.01})
    offered = Sample(
        calls=10_000,
        seconds=1.0,
        cpu_s={"gateway": 0.065, "redis": 0.005},
        statuses={"OK": 1_000, "RESOURCE_EXHAUSTED": 9_000},
    )
    refusal = refusal_cost(offered, peak)
    assert refusal.calls == 9_000
    assert refusal.cpu_us == pytest.approx(0.02 / 9_000 * 1e6)
    with pytest.raises(InvalidSample, match="nothing was refused"):
        refusal_cost(dataclasses.replace(offered, statuses={"OK": 10_000}), peak)


def test_a_generator_that_was_too_slow_is_named() -> None:
    """What it left out, or a core that it used up, makes a sample unfit; what servers hold back
    does not.
    """
    sample = dataclasses.replace(sample_of(calls=1_000), held_back=9_000, generator=0.9)
    assert generator_fault(sample) == ""
    starved = dataclasses.replace(sample, starved=2_000)
    assert "17% of the calls" in generator_fault(starved)
    assert "99% of its cores" in generator_fault(dataclasses.replace(sample, generator=0.99))
