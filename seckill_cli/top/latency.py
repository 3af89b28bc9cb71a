"""What the mesh itself took for purchases, by the gateways' own histogram. Pure."""

from collections.abc import Mapping

QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))

# Upper bound in seconds → calls that took no longer, ascending.
Buckets = Mapping[float, float]


def quantiles_ms(before: Buckets, after: Buckets) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds of the calls in between; empty if there are none.

    Within a bucket calls are taken to be spread evenly, as Prometheus does. A gateway that was
    restarted meanwhile counts from its start.
    """
    total = max(after.values(), default=0.0)
    if total < max(before.values(), default=0.0):
        before = {}
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    total = max(counts.values(), default=0.0)
    if total <= 0:
        return {}
    return {name: round(_quantile_s(counts, at * total) * 1000, 2) for name, at in QUANTILES}


def _quantile_s(counts: Buckets, wanted: float) -> float:
    lower, below = 0.0, 0.0
    for bound, count in counts.items():
        if count >= wanted and count > below:
            # The last bucket has no end: its start is all that is known.
            return (
                lower + (bound - lower) * (wanted - below) / (count - below)
                if (bound != float("inf"))
                else lower
            )
        lower, below = bound, count
    return lower
