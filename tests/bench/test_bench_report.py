"""What a run leaves behind: the document, the table, the plots."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.measures.latency import CURVE_SAMPLES
from bench.plots import SHARES, draw
from bench.ratios import RATIOS
from bench.report import NOT_MEASURED, compose
from bench.run import Findings
from bench.sample import Sample
from bench.table import to_markdown

FACTS: dict[str, Any] = {
    "when": "2026-01-02T03:04:05+00:00",
    "seconds": 12.0,
    "commit": "0123456789ab",
    "versions": {"python": "3.11"},
    "machine": {
        "cpu": "a core",
        "cores": 2,
        "kernel": "6",
        "load_before": 0.1,
        "others_before": 0.02,
    },
    "sizes": {"name": "quick"},
    "notes": {"overload_5x": "45,000/s due (5.0 times), generator 80% of its core"},
    "curves": {"seckill": [(0.5, 0.5), (5.0, 0.7)], "Go rival": [(0.5, 0.5), (5.0, 0.0)]},
    "memory_mib": {"gateway": 80.0, "redis": 20.0},
    "cpu_s": {"gateway": 9.0, "redis": 1.0},
    "startup_s": {"gateway": 1.25},
    "bytes_each": {"buyer": 700},
}
QUANTILES = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "p99.9": 4.0, "max": 5.0}


def sample_of(*, rate_per_s: float, **cpu_us: float) -> Sample:
    """A thousand calls; CPU a call by process."""
    return Sample(
        calls=1_000,
        seconds=1_000 / rate_per_s,
        cpu_s={name: 1_000 * us / 1e6 for name, us in cpu_us.items()},
        latency_ms=QUANTILES,
    )


@pytest.fixture
def document() -> dict[str, Any]:
    """The document of a run in which one measurement failed and others were never taken."""
    findings = Findings(
        samples={
            "echo": [sample_of(rate_per_s=5_000, echo=200)],
            "purchase": [sample_of(rate_per_s=9_000, gateway=50, redis=30)],
            "overload_5x": [sample_of(rate_per_s=8_100, gateway=60)],
            "overload_closed": [Sample(calls=1, seconds=1.0)],
            "overload_pays": [Sample(calls=100, seconds=5.0, statuses={"OK": 98})],
            "overload_peak": [sample_of(rate_per_s=9_000, gateway=50)],
            "recovery": [Sample(calls=1, seconds=2.5)],
            "purchase_half": [Sample(calls=0, seconds=1.0)],
            "echo_half": [sample_of(rate_per_s=2_500, echo=200)],
            "visible": [sample_of(rate_per_s=200)],
            **{
                name: [sample_of(rate_per_s=9_000 * share, gateway=60)]
                for name, share in CURVE_SAMPLES.items()
            },
        },
        failures={"rival_purchase": "InvalidSample after 1 s: why"},
        unfit={"visible": "why", "recovery": "others had 1.00 cores"},
    )
    return compose(findings, RATIOS, FACTS)


def test_a_failure_costs_its_own_row(document: dict[str, Any]) -> None:
    """What could be measured is there; what could not says why."""
    assert document["ratios"]["purchase_grpc_vs_echo"] == pytest.approx(2.5)
    assert document["missing"]["accept_vs_go"] == "InvalidSample after 1 s: why"
    assert document["missing"]["storm_vs_echo"] == NOT_MEASURED
    assert document["missing"]["latency_knee"] == "KeyError: 'p99'"
    keys = {ratio.key for ratio in RATIOS}
    assert document["ratios"].keys() | document["missing"].keys() == keys
    assert not document["ratios"].keys() & document["missing"].keys()


def test_the_table_has_every_key_and_says_what_a_reader_must_know(document: dict[str, Any]) -> None:
    """Aims that were missed are marked; notes stand in their rows; seconds have no denominator."""
    rows = {
        line.split("|")[1].strip(): line
        for line in to_markdown(document).splitlines()[6:]
        if line.startswith("|")
    }
    assert all(f"`{ratio.key}`" in rows for ratio in RATIOS)
    assert "✗" in rows["`purchase_grpc_vs_echo`"]
    assert "generator 80% of its core" in rows["`overload_goodput_5x`"]
    assert "✗" not in rows["`overload_goodput_5x`"]
    assert rows["`overload_recovery_s`"].endswith(
        "| 2.5 s; **unfit**: recovery: others had 1.00 cores |"
    )
    assert "✗" not in rows["`overload_connections_closed`"]
    assert "**0.98** ✗" in rows["`overload_pays_answered`"]
    assert rows["purchases, gRPC"].endswith("| 12,500 |")
    assert rows["gateway"] == "| gateway | 80 | 9.0 | 1.25 |"
    assert rows["redis"] == "| redis | 20 | 1.0 |  |"


def test_plots_are_pictures(document: dict[str, Any]) -> None:
    """No scripts, nothing from elsewhere, no background, and the same again for the same run."""
    pictures = draw(document)
    assert pictures.keys() == {"ratios", "cpu", "latency", "overload"}
    assert b"Go rival" in pictures["overload"]
    assert pictures == draw(document)
    for picture in pictures.values():
        tree = ET.fromstring(picture)  # noqa: S314 - our own
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert "text" in tags
        assert not tags & {"script", "image"}
        assert b"prefers-color-scheme: dark" in picture
        assert b"transparent" in picture
    assert b"purchase_grpc_vs_echo" in pictures["ratios"]
    assert set(SHARES) == set(CURVE_SAMPLES)


def test_plots_without_figures_are_left_out(document: dict[str, Any]) -> None:
    """A run of few keys draws what it can."""
    bare = {**document, "latency_ms": {}, "cpu_us_per_attempt": {}, "curves": {}}
    assert draw(bare).keys() == {"ratios"}
