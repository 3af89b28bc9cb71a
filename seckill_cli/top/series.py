"""What samples of a sale say over time: counters as rates, units, shares. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from seckill_cli.top.latency import quantiles_ms
from seckill_cli.top.sampler import Sample

BARS = "▁▂▃▄▅▆▇█"
# Outcomes that have a line of their own; all others are one.
OUTCOMES = ("reserved", "sold_out", "already_purchased")


def sparkline(values: Sequence[float], *, width: int) -> str:
    """Return the last `width` values as bars from nothing to their highest; "" without any."""
    shown = values[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return BARS[0] * len(shown)
    steps = len(BARS) - 1
    return "".join(BARS[min(steps, round(max(0.0, value) / top * steps))] for value in shown)


def rate(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> float:
    """Return what counters grew by in a second; a process that restarted counts from 0."""
    total, earlier = sum(after.values()), sum(before.values())
    grown = total - earlier if total >= earlier else total
    return grown / seconds if seconds > 0 else 0.0


def rates(samples: Sequence[Sample]) -> Iterator[dict[str, float]]:
    """Yield attempts a second between each two samples, by what became of them."""
    for before, after in pairwise(samples):
        seconds = after.at_s - before.at_s
        old, new = before.exported, after.exported
        found = {
            name: rate(
                {name: old.outcomes.get(name, 0.0)}, {name: new.outcomes.get(name, 0.0)}, seconds
            )
            for name in OUTCOMES
        }
        found["other"] = rate(_others(old.outcomes), _others(new.outcomes), seconds)
        found["shed"] = rate({"": old.shed}, {"": new.shed}, seconds)
        found["failed"] = rate({"": old.faults}, {"": new.faults}, seconds)
        yield found


def latencies_ms(samples: Sequence[Sample]) -> dict[str, float]:
    """Return quantiles of the purchases between the first and the last of the samples."""
    if len(samples) < 2:
        return {}
    return quantiles_ms(samples[0].exported.latencies, samples[-1].exported.latencies)


def recorded(samples: Sequence[Sample]) -> list[dict[str, float]]:
    """Return what the samples say as plain numbers: seconds since the first one, and the series.

    A service that did not answer is as it was before.
    """
    found: list[dict[str, float]] = []
    last: dict[str, float] = {}
    for sample, attempts in zip(samples, ({}, *rates(samples)), strict=False):
        if sample.sale is not None:
            last["remaining"] = sample.sale.remaining_units
        if (totals := sample.totals) is not None:
            last |= {
                "pending": totals.pending_units,
                "paid": totals.paid_units,
                "restored": totals.restored_units,
            }
        exported = sample.exported
        found.append(
            {
                "seconds": round(sample.at_s - samples[0].at_s, 2),
                **last,
                **{f"{name}_per_s": round(value, 1) for name, value in attempts.items()},
                "outbox": exported.outbox,
                "lag": exported.lag,
                "due": exported.due,
            }
        )
    return found


def _others(outcomes: Mapping[str, float]) -> dict[str, float]:
    return {name: count for name, count in outcomes.items() if name not in OUTCOMES}
