"""The demo's result: a table for people, demo.json for programs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from seckill.demo.scenario import Answer, Scenario, Tally
from seckill.demo.verdict import Books, Verdict


def summarize(
    scenario: Scenario,
    *,
    tally: Tally,
    books: Books,
    verdict: Verdict,
    arrival_s: float,
    seconds: float,
    components: dict[str, str],
) -> dict[str, Any]:
    """Everything the demo found, as it is written to demo.json."""
    states = Counter(state for _, _, state, _ in books.orders)
    return {
        "stock": scenario.stock,
        "buyers": scenario.buyers,
        "attempts": tally.attempts,
        "reserved": tally.by_answer[Answer.RESERVED],
        "sold_out": tally.by_answer[Answer.SOLD_OUT],
        "already_purchased": tally.by_answer[Answer.ALREADY_PURCHASED],
        "other": tally.by_answer[Answer.OTHER],
        "failed": tally.by_answer[Answer.FAILED],
        "retried_errors": dict(tally.errors),
        "orders": {
            state: states[state]
            for state in ("pending", "paid", "cancelled", "rejected", "refunded")
        },
        "restored_units": books.restored,
        "remaining": books.remaining,
        "oversold": verdict.oversold,
        "lost": verdict.lost,
        "unaccounted": verdict.unaccounted,
        "attempts_per_s": round(tally.attempts / arrival_s, 1),
        "latency_ms": {
            name: round(tally.latency_ms(quantile), 2)
            for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "seconds": round(seconds, 2),
        "components": components,
    }


def write(path: Path, summary: dict[str, Any]) -> None:
    """Write demo.json, seen whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(summary, indent=2) + "\n")
    unfinished.replace(path)


def table(summary: dict[str, Any]) -> Table:
    """The result for people."""
    rows = Table("what", "value", title="The sale", title_justify="left", min_width=48)
    orders, latency = summary["orders"], summary["latency_ms"]
    rows.add_row("buyers / units", f"{summary['buyers']:,} / {summary['stock']:,}")
    rows.add_row("attempts", f"{summary['attempts']:,} ({summary['attempts_per_s']:,.0f} a second)")
    rows.add_row(
        "answers",
        f"{summary['reserved']:,} reserved, {summary['sold_out']:,} sold out,"
        f" {summary['already_purchased']:,} already purchased",
    )
    rows.add_row(
        "orders",
        f"{orders['paid']:,} paid, {orders['cancelled']:,} cancelled,"
        f" {orders['pending']:,} pending",
    )
    rows.add_row("units that came back", f"{summary['restored_units']:,}")
    rows.add_row("units left", f"{summary['remaining']:,}")
    rows.add_row(
        "latency of a purchase",
        f"p50 {latency['p50']} ms, p95 {latency['p95']} ms, p99 {latency['p99']} ms",
    )
    rows.add_row("servers", ", ".join(summary["components"].values()))
    for name in ("oversold", "lost", "unaccounted"):
        color = "green" if summary[name] == 0 else "red"
        rows.add_row(name, f"[bold {color}]{summary[name]}")
    rows.add_row("took", f"{summary['seconds']} s")
    return rows
