"""docs/reference/metrics.md: every metric that the services export."""

import importlib
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from seckill.runtime.telemetry import RpcMetrics
from tools.markdown import table

ROOT = Path(__file__).resolve().parent.parent
# In this order: what a service imports from the ground is not its own.
PACKAGES = {
    "seckill": "Every service",
    "gateway": "gateway",
    "inventory_svc": "inventory_svc",
    "order_svc": "order_svc",
    "rollback_svc": "rollback_svc",
    "edge": "edge (the agent; Envoy exports its own)",
}
UNITS = {
    "_timestamp_seconds": "Unix time in seconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_units": "units",
}
INTRODUCTION = """# Metrics

For Prometheus, at `/metrics` of each process's `SECKILL_…_METRICS_LISTEN`. The Python client adds
those of the process (`process_…`, `python_…`). A metric without a unit counts what its name says.
The label `sku` is that of at most `SECKILL_SALE_METRICS_MAX` sales. Alerts and dashboards:
`deploy/observability/`.
"""
HEADER = ("metric", "type", "labels", "unit", "meaning")


def page() -> tuple[str, list[str]]:
    """Return the page, and the metrics that have no meaning."""
    missing: list[str] = []
    parts = [INTRODUCTION]
    seen: set[MetricWrapperBase] = set()
    for package, title in PACKAGES.items():
        rows = []
        for metric in _declared(package):
            if metric not in seen:
                seen.add(metric)
                rows.append(_row(metric, missing))
        parts.append(f"\n## {title}\n\n{table(HEADER, sorted(rows))}")
    return "".join(parts), missing


def _declared(package: str) -> Iterator[MetricWrapperBase]:
    """Yield the metrics that a package's modules have, also those that were imported before."""
    for name in _modules(package):
        found = vars(importlib.import_module(name)).values()
        registered = set(_collectors())
        for value in found:
            held = vars(value).values() if isinstance(value, RpcMetrics) else (value,)
            yield from (
                one for one in held if isinstance(one, MetricWrapperBase) and one in registered
            )


def _modules(package: str) -> list[str]:
    """Return the modules of a package that declare metrics."""
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / package).rglob("*.py"))
        if "prometheus_client" in path.read_text(encoding="utf-8")
    ]


def _collectors() -> list[MetricWrapperBase]:
    found = REGISTRY._collector_to_names  # noqa: SLF001 - there is no public way to the labels
    return [metric for metric in found if isinstance(metric, MetricWrapperBase)]


def _row(metric: MetricWrapperBase, missing: list[str]) -> tuple[str, ...]:
    (family,) = metric.describe()
    if not family.documentation:
        missing.append(family.name)
    unit = next((unit for suffix, unit in UNITS.items() if family.name.endswith(suffix)), "")
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001
    return (f"`{name}`", family.type, labels, unit, family.documentation)
