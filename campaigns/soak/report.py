"""The report of a campaign: a table for the console, a JSON file."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from campaigns.soak.campaign import Result

SHOWN_MAX = 20


def summarize(result: Result, *, redis: str) -> dict[str, Any]:
    """Return the whole result as plain values; `redis`: what it was, "single" or "cluster"."""
    plan = result.plan
    return {
        "seed": plan.seed,
        "minutes": plan.seconds / 60,
        "plan": plan.digest,
        "redis": redis,
        "planted_bug": result.bug or None,
        "verdict": "violated" if result.violations else "clean",
        "violations": result.violations,
        "converged_s": round(result.converged_s, 1),
        "versions": {
            **result.versions,
            "seckill-mesh": version("seckill-mesh"),
            "python": platform.python_version(),
            "gateway_front": plan.front,
        },
        "sales": [asdict(sale) for sale in plan.sales],
        "buyers": len(plan.buyers),
        "attempts": dict(result.attempts.most_common()),
        "calls": dict(result.calls.most_common()),
        "orders": dict(result.states.most_common()),
        "looks_at_the_database": {"done": result.looks, "missed": result.missed},
        "deaths_by_itself": [asdict(death) for death in result.deaths],
        "mended": [asdict(mended) for mended in result.mended],
        "faults": [
            {
                "kind": fault.plan.kind,
                "target": fault.plan.target,
                "detail": fault.plan.detail,
                "planned": {"at_s": fault.plan.at_s, "lasts_s": fault.plan.lasts_s},
                "was": {"at_s": round(fault.started_s, 3), "until_s": round(fault.ended_s, 3)},
                "note": fault.note,
            }
            for fault in result.injected
        ],
    }


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary to a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")


def show_schedule(console: Console, result_plan: Any) -> None:
    """Print the faults of a plan."""
    table = Table("at", "fault", title=f"Faults of seed {result_plan.seed}", box=None)
    for fault in result_plan.faults:
        table.add_row(f"{fault.at_s:6.1f} s", str(fault))
    console.print(table)


def show(console: Console, result: Result) -> None:
    """Print what happened, and the verdict."""
    plan = result.plan
    not_done = sum(fault.note.startswith("not done") for fault in result.injected)
    table = Table("what", "value", title=f"Soak of seed {plan.seed}")
    table.add_row("plan", f"{plan.digest}, {plan.seconds:.0f} s, {plan.front} front")
    table.add_row("planted bug", result.bug or "none")
    table.add_row("stores", ", ".join(result.versions.values()))
    table.add_row("buyers", f"{len(plan.buyers):,} in {len(plan.sales)} sales")
    table.add_row("attempts", _counts(result.attempts))
    table.add_row("other calls", _counts(result.calls))
    table.add_row("orders", _counts(result.states))
    table.add_row("faults", f"{len(result.injected)} of {len(plan.faults)}, {not_done} not done")
    table.add_row("rebuilt by operators", str(len(result.mended)))
    table.add_row("looks at the database", f"{result.looks}, and {result.missed} that failed")
    table.add_row("converged", f"{result.converged_s:.1f} s after the last fault")
    console.print(table)
    for violation in result.violations[:SHOWN_MAX]:
        console.print(f"[red]{violation}", highlight=False, markup=True)
    if len(result.violations) > SHOWN_MAX:
        console.print(f"and {len(result.violations) - SHOWN_MAX} more")
    verdict = "[bold red]VIOLATED" if result.violations else "[bold green]CLEAN"
    console.print(f"seed {plan.seed}: {verdict}")


def _counts(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {name}" for name, count in ranked) or "none"
