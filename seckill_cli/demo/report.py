"""The demo's result: a table for people, demo.json for programs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from seckill_cli.demo.scenario import TOKEN_EXPIRED, Answer, Scenario, Tally
from seckill_cli.demo.verdict import StoreTotals, Verdict


def summarize(
    scenario: Scenario,
    *,
    tally: Tally,
    totals: StoreTotals,
    verdict: Verdict,
    arrival_s: float,
    seconds: float,
    components: dict[str, str],
    mesh_ms: dict[str, float],
    series: list[dict[str, float]],
) -> dict[str, Any]:
    """Return everything the demo found, as it is written to demo.json.

    Args:
        mesh_ms: what the purchases took by the gateway's own account; empty if it is not known.
        series: the sale as it was watched, half a second apart.
    """
    states = Counter(state for _, _, state, _ in totals.orders)
    return {
        "stock": scenario.stock,
        "buyers": scenario.buyers,
        "attempts": tally.attempts,
        "reserved": tally.by_answer[Answer.RESERVED],
        "sold_out": tally.by_answer[Answer.SOLD_OUT],
        "already_purchased": tally.by_answer[Answer.ALREADY_PURCHASED],
        "other": tally.by_answer[Answer.OTHER],
        "refused": tally.by_answer[Answer.REFUSED],
        "unanswered": tally.by_answer[Answer.UNANSWERED],
        "expired_tokens": tally.errors[TOKEN_EXPIRED],
        "failed_calls": dict(tally.errors),
        "orders": {
            state: states[state]
            for state in ("pending", "paid", "cancelled", "rejected", "refunded")
        },
        "restored_units": totals.restored,
        "remaining": totals.remaining,
        "oversold": verdict.oversold,
        "lost": verdict.lost,
        "unaccounted": verdict.unaccounted,
        "attempts_per_s": round(tally.attempts / arrival_s, 1),
        "latency_ms": {
            name: round(tally.latency_ms(quantile), 2)
            for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
        "mesh_latency_ms": mesh_ms,
        "seconds": round(seconds, 2),
        "components": components,
        "series": series,
    }


def write(path: Path, summary: dict[str, Any]) -> None:
    """Write demo.json, seen whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(summary, indent=2) + "\n")
    unfinished.replace(path)


def table(summary: dict[str, Any]) -> Table:
    """Return the result for people."""
    rows = Table("what", "value", title="The sale", title_justify="left", min_width=48)
    orders = summary["orders"]
    rows.add_row("buyers / units", f"{summary['buyers']:,} / {summary['stock']:,}")
    rows.add_row("attempts", f"{summary['attempts']:,} ({summary['attempts_per_s']:,.0f} a second)")
    rows.add_row(
        "answers",
        f"{summary['reserved']:,} reserved, {summary['sold_out']:,} sold out,"
        f" {summary['already_purchased']:,} already purchased",
    )
    rows.add_row("refused, nothing bought", f"{summary['refused']:,}")
    rows.add_row("left without an answer", f"{summary['unanswered']:,}")
    rows.add_row("expired tokens, renewed", f"{summary['expired_tokens']:,}")
    rows.add_row(
        "orders",
        f"{orders['paid']:,} paid, {orders['cancelled']:,} cancelled,"
        f" {orders['pending']:,} pending",
    )
    rows.add_row("units that came back", f"{summary['restored_units']:,}")
    rows.add_row("units left", f"{summary['remaining']:,}")
    rows.add_row("a purchase, buyers felt", _milliseconds(summary["latency_ms"]))
    rows.add_row("a purchase, mesh took", _milliseconds(summary["mesh_latency_ms"]))
    rows.add_row("servers", ", ".join(summary["components"].values()))
    for name in ("oversold", "lost", "unaccounted"):
        color = "green" if summary[name] == 0 else "red"
        rows.add_row(name, f"[bold {color}]{summary[name]}")
    rows.add_row("took", f"{summary['seconds']} s")
    return rows


def _milliseconds(latency: dict[str, float]) -> str:
    return ", ".join(f"{name} {value} ms" for name, value in latency.items()) or "not known"
