"""results/latest.json and results/latest.md."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ratios import MISSING, Ratio
from bench.run import Findings
from bench.sample import median, median_by_key, median_cpu_us

PACKAGES = ("grpcio", "pygrpc-native", "redis", "aiokafka", "asyncpg", "uvloop", "protobuf")
HOW_LATENCY = (
    "Milliseconds. Names with a share of the load are open loops, counted from when each call"
    " was due; all others are closed loops at full load, where latency is the queue's length."
)
_LATENCIES = ("p50", "p95", "p99", "p99.9")


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
    }


def versions(stores: Mapping[str, str], *, go: str | None) -> dict[str, str]:
    """Of the stores, Python, its packages, and Go."""
    found = {**stores, "python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
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
        sides = (ratio.numerator, ratio.denominator)
        failed = [findings.failures[side.sample] for side in sides if side.sample not in samples]
        if failed:
            missing[ratio.key] = failed[0]
        else:
            found[ratio.key] = _ratio(ratio, findings)
    return {
        **facts,
        "ratios": {key: one["value"] for key, one in found.items()},
        "figures": found,
        "missing": {**missing, **MISSING},
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
        "outcomes": {
            name: dict(some[-1].outcomes) for name, some in samples.items() if some[-1].outcomes
        },
    }


def _ratio(ratio: Ratio, findings: Findings) -> dict[str, Any]:
    above, below = ratio.numerator.of(findings.samples), ratio.denominator.of(findings.samples)
    low, high = ratio.spread(findings.samples)
    return {
        "value": round(above / below, 3),
        "aim": ratio.aim,
        "at_most": ratio.at_most,
        "reached": ratio.reached(above / below),
        "what": ratio.what,
        "numerator": round(above, 3),
        "denominator": round(below, 3),
        "unit": ratio.numerator.unit,
        "lowest": round(low, 3),
        "highest": round(high, 3),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in values.items()}


def to_markdown(document: Mapping[str, Any]) -> str:
    """The document for people."""
    lines = [
        "# Last run",
        "",
        _circumstances(document),
        "",
        "## Ratios",
        "",
        "| key | what | ratio | aim | lowest to highest | figures |",
        "|---|---|---|---|---|---|",
        *(_ratio_row(key, one) for key, one in document["figures"].items()),
        *(f"| `{key}` | | missing | | | {why} |" for key, why in document["missing"].items()),
        "",
        "## Rates and CPU",
        "",
        "Microseconds of CPU for each call (order, entry), by process.",
        "",
        "| sample | per second | µs | by process |",
        "|---|---|---|---|",
        *(_cost_row(name, rate, document) for name, rate in document["rates"].items()),
        "",
        "## Latency",
        "",
        HOW_LATENCY,
        "",
        f"| sample | {' | '.join(_LATENCIES)} |",
        f"|---{'|---' * len(_LATENCIES)}|",
        *(_latency_row(name, one) for name, one in document["latency_ms"].items()),
        "",
        "## Memory and start",
        "",
        "| process | MiB at the end | seconds to start |",
        "|---|---|---|",
        *(
            f"| {name} | {mib:.0f} | {document['startup_s'].get(name, ''):.4} |"
            if name in document["startup_s"]
            else f"| {name} | {mib:.0f} | |"
            for name, mib in document["memory_mib"].items()
        ),
        "",
        *(f"- bytes for each {name}: {size:,}" for name, size in document["bytes_each"].items()),
        "",
    ]
    return "\n".join(lines)


def _circumstances(document: Mapping[str, Any]) -> str:
    facts, sizes = document["machine"], document["sizes"]
    repeated = max(document["repetitions"].values(), default=0)
    return (
        f"{document['when']}, {document['seconds']:.0f} s, sizes: {sizes['name']},"
        f" up to {repeated} repetitions; {facts['cpu']}, {facts['cores']} cores,"
        f" Linux {facts['kernel']}, load before {facts['load_before']}."
    )


def _ratio_row(key: str, one: Mapping[str, Any]) -> str:
    sign = "≤" if one["at_most"] else "≥"
    mark = "" if one["reached"] else " ✗"
    return (
        f"| `{key}` | {one['what']} | **{one['value']:.2f}**{mark} | {sign} {one['aim']:g}"
        f" | {one['lowest']:.2f} to {one['highest']:.2f}"
        f" | {one['numerator']:,.5g} / {one['denominator']:,.5g} {one['unit']} |"
    )


def _cost_row(name: str, rate: float, document: Mapping[str, Any]) -> str:
    cost = document["cpu_us_per_attempt"].get(name, {})
    total = f"{sum(cost.values()):.1f}" if cost else ""
    each = ", ".join(f"{process} {us:.1f}" for process, us in cost.items())
    return f"| {name} | {rate:,.0f} | {total} | {each} |"


def _latency_row(name: str, one: Mapping[str, float]) -> str:
    return f"| {name} | {' | '.join(f'{one.get(at, 0):.2f}' for at in _LATENCIES)} |"


def write(document: Mapping[str, Any], directory: Path) -> str:
    """Write both files; returns the table."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (directory / "latest.json").write_text(text + "\n", encoding="utf-8")
    table = to_markdown(document)
    (directory / "latest.md").write_text(table, encoding="utf-8")
    return table
