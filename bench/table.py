"""The document of a run for people: results/latest.md."""

from collections.abc import Mapping
from typing import Any

HOW_LATENCY = (
    "Milliseconds. Names with a share of the load are open loops, counted from when each call"
    " was due. `visible` and `paid` count from the answer to the purchase until GetOrder knows the"
    " order, and until PayOrder has answered. All others are closed loops at full load, where"
    " latency is the queue's length."
)
_LATENCIES = ("p50", "p95", "p99", "p99.9")
# What one core buys, as far as capacity is planned with it.
_BOUGHT = {
    "purchase": "purchases, gRPC",
    "purchase_json": "purchases, JSON through Envoy",
    "purchase_json_door": "purchases, the gateway's own JSON",
    "order": "whole orders, to the last row",
    "issue": "purchase tokens",
    "polling": "GetOrder",
    "sold_out": "refusals by the gateway",
    "storm": "refusals by Envoy, gRPC",
    "storm_json": "refusals by Envoy, JSON",
    "crowd": "attempts of a crowd",
}


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
        "## What one core buys",
        "",
        "All processes together, in a second of CPU.",
        "",
        "| | |",
        "|---|---|",
        *(
            f"| {what} | {document['per_cpu_s'][name]:,} |"
            for name, what in _BOUGHT.items()
            if name in document["per_cpu_s"]
        ),
        "",
        "## Latency",
        "",
        HOW_LATENCY,
        "",
        f"| sample | {' | '.join(_LATENCIES)} |",
        f"|---{'|---' * len(_LATENCIES)}|",
        *(_latency_row(name, one) for name, one in document["latency_ms"].items()),
        "",
        "## Processes",
        "",
        "| process | MiB at the end | CPU seconds of the run | seconds to start |",
        "|---|---|---|---|",
        *(_process_row(name, document) for name in document["memory_mib"]),
        "",
        *(f"- bytes for each {name}: {size:,}" for name, size in document["bytes_each"].items()),
        # Results of an earlier release have none.
        *(
            f"- a sale's slot moves, {name.replace('_', ' ')}: {figure:,} ms without an answer"
            for name, figure in document.get("slot_move_gap_ms", {}).items()
        ),
        *(
            f"- polls answered by a replica, {name.replace('_', ' ')}: {figure:,}"
            for name, figure in document.get("replica_read_share", {}).items()
        ),
        *(
            f"- a sale in buckets, {name.replace('_', ' ')}: {figure:,}"
            for name, figure in document.get("buckets_scaling", {}).items()
        ),
        "",
    ]
    return "\n".join(lines)


def _circumstances(document: Mapping[str, Any]) -> str:
    facts, sizes = document["machine"], document["sizes"]
    repeated = max(document["repetitions"].values(), default=0)
    return (
        f"{document['when']}, commit {document['commit']}, {document['seconds']:.0f} s,"
        f" sizes: {sizes['name']}, up to {repeated} repetitions; {facts['cpu']},"
        f" {facts['cores']} cores, Linux {facts['kernel']}, load before {facts['load_before']}"
        f" (others had {facts['others_before']} cores). {_versions(document)}"
    )


def _versions(document: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + "."


def _ratio_row(key: str, one: Mapping[str, Any]) -> str:
    sign = "≤" if one["at_most"] else "≥"
    mark = "" if one["reached"] else " ✗"
    below = "" if one["denominator"] is None else f" / {one['denominator']:,.5g}"
    note = f"; {one['note']}" if one["note"] else ""
    note += f"; **unfit**: {one['unfit']}" if one["unfit"] else ""
    return (
        f"| `{key}` | {one['what']} | **{one['value']:.2f}**{mark} | {sign} {one['aim']:g}"
        f" | {one['lowest']:.2f} to {one['highest']:.2f}"
        f" | {one['numerator']:,.5g}{below} {one['unit']}{note} |"
    )


def _process_row(name: str, document: Mapping[str, Any]) -> str:
    start_s = document["startup_s"].get(name)
    start = "" if start_s is None else f"{start_s:.2f}"
    mib, used_s = document["memory_mib"][name], document["cpu_s"][name]
    return f"| {name} | {mib:.0f} | {used_s:.1f} | {start} |"


def _cost_row(name: str, rate: float, document: Mapping[str, Any]) -> str:
    cost = document["cpu_us_per_attempt"].get(name, {})
    total = f"{sum(cost.values()):.1f}" if cost else ""
    each = ", ".join(f"{process} {us:.1f}" for process, us in cost.items())
    return f"| {name} | {rate:,.0f} | {total} | {each} |"


def _latency_row(name: str, one: Mapping[str, float]) -> str:
    return f"| {name} | {' | '.join(f'{one.get(at, 0):.2f}' for at in _LATENCIES)} |"
