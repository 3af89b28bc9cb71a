"""What the mesh itself took for the purchases of the demo, by the gateway's own histogram."""

import asyncio
import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

HISTOGRAM = "grpc_server_handling_seconds"
SAMPLE = f"{HISTOGRAM}_bucket"
METHOD = "Purchase"
TIMEOUT_S = 5.0
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))

# Upper bound in seconds → calls that took no longer, ascending.
Buckets = Mapping[float, float]


async def read(address: str) -> Buckets:
    """Return the histogram of Purchase as it is now; `address`: host:port of the metrics.

    Empty if it cannot be read, e.g. because the gateway is being restarted.
    """
    return await asyncio.to_thread(_read, f"http://{address}/metrics") if address else {}


def _read(url: str) -> Buckets:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own
            return parse(answer.read().decode())
    except OSError:
        return {}


def parse(text: str) -> Buckets:
    """Return the histogram of Purchase from what the gateway exports."""
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name != HISTOGRAM:
            continue
        for sample in family.samples:
            if sample.name == SAMPLE and sample.labels.get("grpc_method") == METHOD:
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return dict(sorted(found.items()))


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
