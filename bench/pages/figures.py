"""What the pairs of measurements say: with the traffic of pages, and without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.sample import Sample

# The gateway's name among the processes of a sample.
GATEWAY = "gateway"
# What two measurements of the same differ by on a quiet machine, and more than which is seen.
NOISE_LEAST = 0.02


@dataclass(frozen=True)
class Pair:
    """Two measurements, one right after the other.

    Attributes:
        without, with_pages: purchases.
        traffic: what the browsers did during the second, by what it was.
    """

    without: Sample
    with_pages: Sample
    traffic: Mapping[str, float]

    @property
    def rate_ratio(self) -> float:
        """Purchases a second with the traffic / without."""
        return self.with_pages.rate_per_s / self.without.rate_per_s

    @property
    def gateway_cpu_ratio(self) -> float:
        """The gateway's CPU for a purchase with the traffic / without."""
        return _gateway_us(self.with_pages) / _gateway_us(self.without)

    @property
    def unfit(self) -> str:
        """Why the pair is not to be trusted; empty if it is."""
        return self.without.unfit or self.with_pages.unfit


def _gateway_us(sample: Sample) -> float:
    return sample.cpu_s[GATEWAY] / sample.calls * 1e6


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the document's figures: of fit pairs, or of all if none is."""
    fit = [pair for pair in pairs if not pair.unfit]
    used = fit or list(pairs)
    alone = [pair.without.rate_per_s for pair in used]
    ratios = [pair.rate_ratio for pair in used]
    noise = max(NOISE_LEAST, (max(alone) - min(alone)) / median(alone))
    return {
        "fit": bool(fit),
        "unfit": "" if fit else used[-1].unfit,
        "pairs": len(used),
        "rate_per_s_without": round(median(alone), 1),
        "rate_per_s_with": round(median(pair.with_pages.rate_per_s for pair in used), 1),
        "ratio": round(median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "noise": round(noise, 3),
        "measurable": median(ratios) < 1 - noise,
        "gateway_cpu_ratio": round(median(pair.gateway_cpu_ratio for pair in used), 3),
        "cpu_us_without": _cpu_us([pair.without for pair in used]),
        "cpu_us_with": _cpu_us([pair.with_pages for pair in used]),
        "traffic_per_s": {
            name: round(median(pair.traffic[name] / pair.traffic["seconds"] for pair in used), 1)
            for name in used[0].traffic
            if name != "seconds"
        },
    }


def _cpu_us(samples: Sequence[Sample]) -> dict[str, float]:
    names = samples[0].cpu_s
    return {
        name: round(median(one.cpu_s[name] / one.calls * 1e6 for one in samples), 1)
        for name in names
    }
