"""Far more calls than can be answered: what is still answered, and how soon all is well again.

Impatient buyers press again and again for a sale that is selling. At the peak each presses five
times: one purchase and four answers that he has it. In the overload five times as many presses are
offered, twenty-five of each buyer, of which about five can be answered: the same mix. Good is what
was answered OK within a second of being sent; refused, late and lost calls are not.
"""

import dataclasses
import math
import time
from typing import Any

from bench.sample import Sample, Unfit
from bench.world import PATH, World

TIMES = 5
# Presses of each buyer that can be answered.
ANSWERED_EACH = 5
DEADLINE_S = 1.0
# Of one group of buyers, who press in turn: below the ten a second that a bucket allows.
PRESSES_A_SECOND = 5
# Calls that the gateway takes on one connection; enough of them for all that may be under way.
STREAMS = 256
CONNECTIONS_MAX = 400
LOOK_S = 1.0
# Who has not recovered by then has missed the aim by far.
RECOVERY_MAX_S = 30.0
H2: dict[str, Any] = {"transport": "h2", "timeout_s": DEADLINE_S}


def overload(world: World) -> dict[str, Sample]:
    """`overload_peak`, `overload` (calls: the good ones), `recovery` (how long it took)."""
    calm, crowd = world.sizes.calm_buyers, world.sizes.overload_buyers
    sku = world.create_sale(units=calm + crowd)
    world.issue(sku, buyers=calm + crowd)
    peak = _peak(world, sku)
    rate = peak.rate_per_s
    before_ms = _before(world, sku, rate / 2)
    offered, good = _offer(world, sku, TIMES * rate)
    took_s, after_ms = _await_calm(world, sku, rate / 2, before_ms=before_ms)
    world.notes["overload"] = (
        f"{offered.rate_per_s / rate:.1f} times the peak offered for {offered.seconds:.0f} s:"
        f" {_shares(offered)}"
    )
    world.notes["recovery"] = (
        f"p99 at half of the peak: {before_ms:.0f} ms before, {after_ms:.0f} ms after"
    )
    world.expect_held(sku)
    world.settle()
    recovery = Sample(calls=1, seconds=took_s)
    return {"overload_peak": peak, "overload": good, "recovery": recovery}


def _peak(world: World, sku: str) -> Sample:
    """All calm buyers press in turn, in a closed loop."""
    calm = world.sizes.calm_buyers
    sample = world.load.run(
        "purchase",
        world.gateway.address,
        sku=sku,
        buyers=calm,
        block=calm // 4,
        presses=ANSWERED_EACH,
        total=calm * ANSWERED_EACH,
        clocks=world.clocks(*PATH),
        **H2,
    )
    return sample.require(least=0.99)


def _before(world: World, sku: str, rate_per_s: float) -> float:
    """The highest p99 of several looks. Raises Unfit where calls are refused in each of them."""
    looks = [_look(world, sku, rate_per_s) for _ in range(world.sizes.calm_looks)]
    calm = [p99_ms for p99_ms in looks if math.isfinite(p99_ms)]
    if not calm:
        raise Unfit("half of the peak is too much, before any overload")
    return max(calm)


def _look(world: World, sku: str, rate_per_s: float) -> float:
    """p99 at this rate, in milliseconds, during one second; infinite where calls are refused."""
    sample = world.load.run(
        "purchase",
        world.gateway.address,
        sku=sku,
        buyers=world.sizes.calm_buyers,
        rate=rate_per_s,
        total=int(rate_per_s * LOOK_S),
        in_flight=STREAMS,
        **H2,
    )
    answered = sample.statuses.get("OK", 0)
    return sample.latency_ms["p99"] if answered >= 0.99 * sample.calls else math.inf


def _offer(world: World, sku: str, rate_per_s: float) -> tuple[Sample, Sample]:
    """All that was offered, and what was good of it."""
    under_way = rate_per_s * DEADLINE_S
    offered = world.load.run(
        "purchase",
        world.gateway.address,
        sku=sku,
        first=world.sizes.calm_buyers,
        buyers=world.sizes.overload_buyers,
        block=min(world.sizes.overload_buyers, int(rate_per_s / PRESSES_A_SECOND)),
        presses=ANSWERED_EACH * TIMES,
        rate=rate_per_s,
        seconds=world.sizes.overload_s,
        skip=True,
        connections=min(CONNECTIONS_MAX, math.ceil(under_way / STREAMS)),
        in_flight=STREAMS,
        clocks=world.clocks(*PATH),
        **H2,
    )
    # What the bad ones cost is no cost of the good ones.
    good = dataclasses.replace(offered, calls=offered.statuses.get("OK", 0), cpu_s={})
    return offered, good


def _shares(sample: Sample) -> str:
    """How the calls ended, in per cent."""
    found = sorted(sample.statuses.items(), key=lambda one: -one[1])
    shares = [f"{count / sample.calls:.0%} {status}" for status, count in found]
    if sample.reconnects:
        shares.append(f"{sample.reconnects} connections closed by the gateway")
    return ", ".join(shares)


def _await_calm(
    world: World, sku: str, rate_per_s: float, *, before_ms: float
) -> tuple[float, float]:
    """Seconds until p99 is what it was, RECOVERY_MAX_S at most, and what it is then."""
    begun_s = time.monotonic()
    while True:
        try:
            seen_ms = _look(world, sku, rate_per_s)
        except Unfit:  # not even a connection
            seen_ms = math.inf
        took_s = time.monotonic() - begun_s
        if seen_ms <= before_ms or took_s >= RECOVERY_MAX_S:
            return took_s, seen_ms
