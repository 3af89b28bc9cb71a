"""Multiples of a peak, offered to one door in an open loop, each by buyers of its own."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.cores import Meter
from bench.load import Clocks, no_clocks
from bench.measures.payers import PAYS_PER_S, Payers
from bench.measures.remarks import generator_fault, remark
from bench.quiet import REPEATS_MAX, reason
from bench.sample import InvalidSample, Sample
from bench.world import World

# Attempts of each buyer that are answered.
ANSWERED_EACH = 5
DEADLINE_S = 1.0
# Calls that the gateway takes on one connection; enough of them for all that may be in flight.
STREAMS = 256
CONNECTIONS_MAX = 400
# A closed loop with so many calls in flight finds the peak.
PEAK_CONNECTIONS, PEAK_STREAMS = 16, 64
# HTTP/1.1 has one call at a time on a connection.
HTTP_CONNECTIONS = 800
LOOK_S = 0.5
# All is well again if p99 is what it was, or below this.
CALM_MS = 50.0
# A mesh that has not recovered by then has missed the aim by far.
RECOVERY_MAX_S = 30.0
# CPU of a refusal per purchase, to guess how many will be answered.
REFUSAL_SHARE = 0.06
REPEATING_TIMES = 5.0
# So many steps of a door may be taken again: there are buyers for them.
SPARE_STEPS = 4


def name_of(door: str, times: float) -> str:
    """What the sample of a step is called."""
    return f"{door}_{times:g}x"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where purchases are offered.

    Attributes:
        name: what its samples are called, before "_peak" and "_2x".
        address: host:port.
        clocks: of the processes behind it.
        options: of the generator's command.
        http: as JSON over HTTP/1.1; else gRPC.
        rival: it is the rival's, with sales and tokens of its own.
    """

    name: str
    address: str
    clocks: Clocks = no_clocks
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    http: bool = False
    rival: bool = False


class Offering:
    """Offers multiples of a door's peak, each by buyers of its own.

    Attributes:
        peak: what a closed loop was answered.
        offered: all that was offered in each step, by the name of its sample.
        plain: those steps whose callers did not repeat, and the multiples that they were due.
        curve: (offered, good) in multiples of the peak.
    """

    def __init__(
        self,
        world: World,
        door: Door,
        times: Sequence[float],
        *,
        further: int = 0,
        pays: bool = True,
    ) -> None:
        """
        Args:
            times: multiples of the peak, ascending.
            further: steps at REPEATING_TIMES besides.
            pays: orders are read and paid meanwhile.
        """
        self._world = world
        self._door = door
        self._times = times
        self._seconds = world.sizes.overload_s
        self._next = self._held = 0
        self._spare = SPARE_STEPS
        self._sku = self._create_sale(units=10_000_000)
        # The peak is measured again if it is unfit, by others.
        calm = (REPEATS_MAX + 1) * world.sizes.calm_buyers
        self._issue(0, calm)
        self._peak_name = f"{door.name}_peak"
        self.peak = world.quiet.measure(lambda: {self._peak_name: self._peak()})[self._peak_name]
        self._next = calm
        needs = [self._need(one) for one in (*times, *(REPEATING_TIMES,) * further)]
        self._end = calm + sum(needs) + SPARE_STEPS * max(needs)
        self._issue(calm, self._end)
        orders = int(PAYS_PER_S * self._seconds) * (len(needs) + SPARE_STEPS) if pays else 0
        self._payers = Payers(world, orders) if orders else None
        self.offered: dict[str, Sample] = {}
        self.plain: dict[str, float] = {}
        self.pays: list[Sample] = []
        self.curve: list[tuple[float, float]] = []

    def close(self) -> None:
        """Wait until all that was bought has become orders."""
        if self._door.rival:
            self._world.redis.delete(f"rival:users:{{{self._sku}}}", f"rival:queue:{{{self._sku}}}")
            return
        self._settle()

    def _settle(self) -> None:
        """Let the orders of earlier steps be written, so that no step is measured with their work
        and no outbox grows to its cap.
        """
        if not self._door.rival:
            self._held = self._world.expect_held(self._sku, counted=self._held)
            self._world.settle()

    def all_steps(self, *, recovery: bool = False) -> dict[str, Sample]:
        """Every multiple; `recovery`: and how long it takes until all is well after the last."""
        found = {self._peak_name: self.peak}
        before_ms = self._before() if recovery else 0.0
        for times in self._times:
            found |= self.step(name_of(self._door.name, times), times)
        if recovery:
            found["recovery"] = self._await_calm(before_ms=before_ms)
        return found

    def step(self, name: str, times: float, **how: Any) -> dict[str, Sample]:
        """Offer `times` the peak; `how`: what callers do who are refused."""
        self._settle()
        taken = 0

        def offer() -> dict[str, Sample]:
            nonlocal taken
            taken += 1
            return {name: self._offer(name, times, how)}

        repeats_max = min(REPEATS_MAX, self._spare)
        found = self._world.quiet.measure(offer, repeats_max=repeats_max)
        self._spare -= taken - 1
        good = found[name]
        offered = self.offered[name] = dataclasses.replace(self.offered[name], unfit=good.unfit)
        rate = self.peak.rate_per_s
        # The plot shows what was really offered.
        if not how:
            self.plain[name] = times
            due = offered.calls + offered.held_back
            self.curve.append((due / self._seconds / rate, good.rate_per_s / rate))
        return found

    def _create_sale(self, *, units: int) -> str:
        world = self._world
        if self._door.rival:
            return world.create_rival_sale(units=units)
        return world.create_sale(units=units)

    def _issue(self, first: int, end: int) -> None:
        target = self._door.address if self._door.rival else ""
        self._world.issue(self._sku, first=first, buyers=end - first, target=target)

    def _need(self, times: float) -> int:
        """How many buyers of a step will be answered about ANSWERED_EACH times each."""
        share = min(times, 0.95, max(0.2, (1 - times * REFUSAL_SHARE) / (1 - REFUSAL_SHARE)))
        return math.ceil(self.peak.rate_per_s * self._seconds * share / ANSWERED_EACH)

    def _run(self, **more: Any) -> Sample:
        door = self._door
        options: dict[str, Any] = {"transport": "h2", **door.options}
        if door.http:
            path = f"/v1/sales/{self._sku}:purchase"
            options |= {"transport": "http", "in_flight": 1, "path": path}
            more = {**more, "in_flight": 1}
        options |= more
        return self._world.load.run("purchase", door.address, sku=self._sku, **options)

    def _peak(self) -> Sample:
        """All calm buyers buy in turn, in a closed loop."""
        calm = self._world.sizes.calm_buyers
        first, self._next = self._next, self._next + calm
        sample = self._run(
            first=first,
            buyers=calm,
            block=max(1, calm // 4),
            attempts=ANSWERED_EACH,
            total=calm * ANSWERED_EACH,
            connections=HTTP_CONNECTIONS if self._door.http else PEAK_CONNECTIONS,
            in_flight=PEAK_STREAMS,
            # Patient: a closed loop is not to be refused.
            timeout_s=10.0,
            clocks=self._door.clocks,
        )
        return sample.require(least=0.99)

    def _offer(self, name: str, times: float, how: Mapping[str, Any]) -> Sample:
        """Return what was good; `offered` and `pays` keep the rest."""
        rate = times * self.peak.rate_per_s
        buyers = min(self._need(times), self._end - self._next)
        if buyers < 1:
            raise InvalidSample("there are no more buyers")
        first, self._next = self._next, self._next + buyers
        connections = min(CONNECTIONS_MAX, max(8, math.ceil(rate * DEADLINE_S / STREAMS)))
        with self._paying(times) as pays:
            offered = self._run(
                first=first,
                buyers=buyers,
                rate=rate,
                seconds=self._seconds,
                skip=True,
                connections=HTTP_CONNECTIONS if self._door.http else connections,
                in_flight=STREAMS,
                timeout_s=DEADLINE_S,
                clocks=self._door.clocks,
                **how,
            )
        self.offered[name] = offered
        self._world.notes[name] = remark(offered, rate, self.peak.rate_per_s, pays)
        # What the bad ones cost is no cost of the good ones.
        return dataclasses.replace(
            offered,
            calls=offered.statuses.get("OK", 0),
            seconds=max(self._seconds, offered.good_s),
            cpu_s={},
            unfit=generator_fault(offered),
        )

    @contextmanager
    def _paying(self, times: float) -> Iterator[list[Sample]]:
        """Meanwhile orders are read and paid; what came of it is in the list after the block."""
        found: list[Sample] = []
        if self._payers is None:
            yield found
            return
        with ThreadPoolExecutor(1) as beside:
            running = beside.submit(self._payers.pay, self._door.address, self._seconds)
            yield found
            found.append(running.result())
        if times > 1:
            self.pays += found

    def _before(self) -> float:
        """Return the highest p99 of several looks. Raises InvalidSample if each had refusals."""
        looks = [self._look() for _ in range(self._world.sizes.calm_looks)]
        calm = [p99_ms for p99_ms in looks if math.isfinite(p99_ms)]
        if not calm:
            raise InvalidSample("half of the peak is too much, before any overload")
        return max(calm)

    def _look(self) -> float:
        """p99 at half of the peak, in milliseconds; infinite if calls are refused."""
        rate = self.peak.rate_per_s / 2
        sample = self._run(
            buyers=self._world.sizes.calm_buyers,
            rate=rate,
            total=max(1, int(rate * LOOK_S)),
            in_flight=STREAMS,
            timeout_s=DEADLINE_S,
        )
        answered = sample.statuses.get("OK", 0)
        return sample.latency_ms["p99"] if answered >= 0.99 * sample.calls else math.inf

    def _await_calm(self, *, before_ms: float) -> Sample:
        """How long it takes until p99 is what it was, RECOVERY_MAX_S at most."""
        meter, start_s = Meter(), time.monotonic()
        while True:
            try:
                seen_ms = self._look()
            except InvalidSample:  # not even a connection
                seen_ms = math.inf
            took_s = time.monotonic() - start_s
            if seen_ms <= max(before_ms, CALM_MS) or took_s >= RECOVERY_MAX_S:
                self._world.notes["recovery"] = (
                    f"p99 at half of the peak: {before_ms:.0f} ms before, {seen_ms:.0f} ms after"
                )
                return Sample(calls=1, seconds=took_s, unfit=reason(meter.read()))
