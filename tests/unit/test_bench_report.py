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
    "machine": {"cpu": "a core", "cores": 2, "kernel": "6", "load_before": 0.1},
    "sizes": {"name": "quick"},
    "notes": {"overload": "5.0 times the peak offered for 60 s"},
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
            "overload": [sample_of(rate_per_s=8_100, gateway=60)],
            "overload_peak": [sample_of(rate_per_s=9_000, gateway=50)],
            "recovery": [Sample(calls=1, seconds=2.5)],
            "visible": [sample_of(rate_per_s=200)],
            **{
                name: [sample_of(rate_per_s=9_000 * share, gateway=60)]
                for name, share in CURVE_SAMPLES.items()
            },
        },
        failures={"rival_purchase": "Unfit after 1 s: why"},
    )
    return compose(findings, RATIOS, FACTS)


def test_a_failure_costs_its_own_row(document: dict[str, Any]) -> None:
    """What could be measured is there; what could not says why."""
    assert document["ratios"]["purchase_grpc_vs_echo"] == pytest.approx(2.5)
    assert document["missing"]["accept_vs_go"] == "Unfit after 1 s: why"
    assert document["missing"]["storm_vs_echo"] == NOT_MEASURED
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
    assert "5.0 times the peak offered" in rows["`overload_goodput`"]
    assert "✗" not in rows["`overload_goodput`"]
    assert rows["`overload_recovery_s`"].endswith("| 2.5 s |")
    assert rows["purchases, gRPC"].endswith("| 12,500 |")
    assert rows["gateway"] == "| gateway | 80 | 9.0 | 1.25 |"
    assert rows["redis"] == "| redis | 20 | 1.0 |  |"


def test_plots_are_pictures(document: dict[str, Any]) -> None:
    """No scripts, nothing from elsewhere, no background, and the same again for the same run."""
    pictures = draw(document)
    assert pictures.keys() == {"ratios", "cpu", "latency"}
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
    bare = {**document, "latency_ms": {}, "cpu_us_per_attempt": {}}
    assert draw(bare).keys() == {"ratios"}
