"""Whether the machine was quiet while something was measured; if not, it is measured again.

Figures of a busy machine are wrong by factors, and look like any others. So each sample says
whether it is fit. Waiting and repeating are bounded: on a machine that is never quiet the run ends
all the same, with every such sample marked.
"""

import dataclasses
import time
from collections.abc import Callable

from bench.cores import Disturbance, Meter
from bench.sample import Sample

# Cores' worth of CPU that others may have. On a quiet machine they have 0.02 to 0.05.
OTHERS_MAX = 0.15
STEAL_MAX = 0.05
# How long the machine is looked at before a measurement, and waited for at most.
LOOK_S = 0.2
WAIT_MAX_S = 5.0
REPEATS_MAX = 2

Measurement = Callable[[], dict[str, Sample]]


def reason(seen: Disturbance) -> str:
    """Why a sample of that time is unfit; empty if it is fit."""
    if seen.others > OTHERS_MAX:
        return f"others had {seen.others:.2f} cores"
    if seen.steal > STEAL_MAX:
        return f"{seen.steal:.2f} cores were stolen"
    return ""


class Quiet:
    """Takes measurements when the machine is quiet, as far as the time for that reaches."""

    def __init__(self, budget_s: float, *, say: Callable[[str], None] = lambda _: None) -> None:
        """
        Args:
            budget_s: for all waiting and repeating of a run.
            say: told of each sample that is unfit.
        """
        self._left_s = budget_s
        self.say = say

    def measure(
        self, measurement: Measurement, *, repeats_max: int = REPEATS_MAX
    ) -> dict[str, Sample]:
        """Return its samples; those that are unfit after all repetitions say so."""
        for repeats in range(repeats_max + 1):
            self._await_quiet()
            meter, start_s = Meter(), time.monotonic()
            samples = measurement()
            took_s = time.monotonic() - start_s
            samples = _marked(samples, reason(meter.read()))
            unfit = {name: one.unfit for name, one in samples.items() if one.unfit}
            if not unfit:
                break
            self.say(f"unfit: {unfit}")
            if repeats == repeats_max or took_s > self._left_s:
                break
            self._left_s -= took_s
        return samples

    def _await_quiet(self) -> None:
        until_s = time.monotonic() + WAIT_MAX_S
        while True:
            meter = Meter()
            time.sleep(LOOK_S)
            if not reason(meter.read()) or time.monotonic() > until_s or self._left_s < LOOK_S:
                return
            self._left_s -= LOOK_S


def _marked(samples: dict[str, Sample], why: str) -> dict[str, Sample]:
    if not why:
        return samples
    return {name: dataclasses.replace(one, unfit=one.unfit or why) for name, one in samples.items()}
