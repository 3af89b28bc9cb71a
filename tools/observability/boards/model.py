"""What a dashboard is made of."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        queries: PromQL and what its series are called, in Grafana's templates.
        unit: as Grafana names it.
        meaning: what one sees, and what to make of it.
        kind: a stat is one number, the present one.
        width: of 24 columns.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    meaning: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Attributes:
        name: of its file.
        by_sale: whether it is about one sale, chosen by its sku.
        refresh: how often Grafana asks again.
        since: what is shown at first.
    """

    name: str
    title: str
    rows: tuple[Row, ...] = field(default_factory=tuple)
    by_sale: bool = False
    refresh: str = "5s"
    since: str = "now-15m"


def quantiles(histogram: str, labels: str = "") -> tuple[tuple[str, str], ...]:
    """Return the queries of three quantiles of a histogram; `labels`: matchers in braces."""
    return tuple(
        (
            (
                f"histogram_quantile({quantile}, sum by (le) "
                f"(rate({histogram}_bucket{labels}[$__rate_interval])))"
            ),
            name,
        )
        for name, quantile in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))
    )
