"""Shows the checks, the rehearsal and the forecast in a terminal, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from seckill.findings import FAILED, OK, WARNING
from seckill_cli.display import shown, table
from seckill_cli.preflight.checks import Check, Plan
from seckill_cli.preflight.model import KINDS, USE, Forecast, last_order_s
from seckill_cli.preflight.rehearsal import Rehearsed
from seckill_cli.preflight.verdict import Answer, Verdict, generator_limit

WORDS = {OK: ("ok", "green"), WARNING: ("warning", "yellow"), FAILED: ("FAILED", "bold red")}
UNSURE = ("unknown", "magenta")
ANSWERS = {
    Answer.GO: ("GO", "bold green"),
    Answer.NO_GO: ("NO-GO", "bold red"),
    Answer.UNKNOWN: ("COULD NOT TELL", "bold magenta"),
}


def draw_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print one line for each check."""
    rows = table(("verdict", "check", "where"), ("found", "what to do"))
    for one in checks:
        word, style = WORDS.get(one.verdict, UNSURE)
        rows.add_row(Text(word, style), *map(shown, (one.name, one.where, one.found, one.advice)))
    console.print(rows)


def draw_rehearsal(console: Console, plan: Plan, rehearsed: Rehearsed, expected: Forecast) -> None:
    """Print what was seen, and what follows from it."""
    played = rehearsed.played
    rows = table(("",), ("",))
    rows.show_header = False
    rows.add_text("buyers", f"{played.attempts:,} at {plan.rate_per_s:,.0f} a second")
    outcomes = ", ".join(
        f"{count:,} {name.lower().replace('_', ' ')}"
        for name, count in played.outcomes.most_common()
    )
    rows.add_text("answers", outcomes or "none")
    if played.failures:
        failures = ", ".join(f"{name} {count:,}" for name, count in played.failures.most_common())
        rows.add_text("failed", failures)
    latencies = ", ".join(
        f"p{share * 100:g} {played.latency_ms(share):.1f} ms" for share in (0.5, 0.95, 0.99)
    )
    rows.add_text("took", f"{latencies} (a token and a purchase)")
    settled = rehearsed.settled_s
    late = "not in time" if settled is None else f"{settled:.1f} s after the last answer"
    rows.add_text("orders", f"{rehearsed.orders:,}, written {late}")
    limit = generator_limit(rehearsed)
    rows.add_text("generator", limit or f"busy for {played.busy:.0%}: not the limit")
    for remark in rehearsed.remarks:
        rows.add_text("remark", remark)
    console.print(rows)
    _draw_stages(console, rehearsed, expected)
    rate = f"{expected.rate_per_s:,.0f} buyers a second"
    console.print(f"first to break: {expected.first}, at {rate} in full batches")
    if expected.p99_s is not None and expected.lost_share is not None:
        console.print(
            f"the crowd would be answered within {expected.p99_s * 1000:,.0f} ms (p99, simulated),"
            f" {expected.lost_share:.1%} of it not in time"
        )
    orders = min(plan.units, plan.buyers)
    last_s = last_order_s(rehearsed.stages, orders=orders)
    console.print(f"all of {orders:,} orders at once are written within {last_s:.2f} s")


def _draw_stages(console: Console, rehearsed: Rehearsed, expected: Forecast) -> None:
    console.print()
    rows = table(
        ("stage", *(f"µs {kind}" for kind in KINDS), "breaks at", "processes", "it takes"), ()
    )
    limits = {limit.name: limit.rate_per_s for limit in expected.limits}
    for stage in rehearsed.stages:
        rate = limits.get(stage.name)
        rows.add_text(
            stage.name,
            *(f"{stage.cost_s.get(kind, 0.0) * 1e6:.1f}" for kind in KINDS),
            "-" if rate is None else f"{rate:,.0f}/s",
            str(stage.processes),
            f"{expected.pods[stage.name]} at {USE:.0%} use",
        )
    console.print(rows)


def draw_verdict(console: Console, verdict: Verdict) -> None:
    """Print the answer, and the reasons."""
    console.print()
    word, style = ANSWERS[verdict.answer]
    console.print(Text(word, style))
    for reason in verdict.reasons:
        console.print(f"  {shown(reason)}")


def as_document(
    plan: Plan,
    checks: Sequence[Check],
    rehearsed: Rehearsed | None,
    expected: Forecast | None,
    verdict: Verdict,
) -> Mapping[str, Any]:
    """Return everything for another program."""
    document: dict[str, Any] = {
        "answer": verdict.answer.name.lower().replace("_", "-"),
        "reasons": list(verdict.reasons),
        "plan": {**asdict(plan), "rate_per_s": round(plan.rate_per_s, 3)},
        "checks": [
            {**asdict(one), "verdict": WORDS.get(one.verdict, UNSURE)[0].lower()} for one in checks
        ],
    }
    if rehearsed is not None and expected is not None:
        played = rehearsed.played
        document["rehearsal"] = {
            "buyers": played.attempts,
            "outcomes": dict(played.outcomes),
            "failures": dict(played.failures),
            "latency_ms": {
                f"p{share * 100:g}": round(played.latency_ms(share), 3)
                for share in (0.5, 0.95, 0.99)
            },
            "orders": rehearsed.orders,
            "settled_s": rehearsed.settled_s,
            "generator_busy": round(played.busy, 3),
            "generator_limit": generator_limit(rehearsed),
            "remarks": list(rehearsed.remarks),
        }
        document["forecast"] = {
            "first": expected.first,
            "limits": {one.name: round(one.rate_per_s, 1) for one in expected.limits},
            "pods": dict(expected.pods),
            "p99_ms": None if expected.p99_s is None else round(expected.p99_s * 1000, 3),
            "lost_share": expected.lost_share,
            "cost_us": {
                stage.name: {kind: round(s * 1e6, 3) for kind, s in stage.cost_s.items()}
                for stage in rehearsed.stages
            },
        }
    return document
