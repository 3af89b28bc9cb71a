"""`python -m bench.scale.capacity`: what 100,000 attempts and 10,000 orders a second take.

Simulates meshes with the costs of results/scale.json. Writes results/capacity.json, and the plots
of docs/capacity.md.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.scale import pictures
from bench.scale.sizing import Scenario, Size, run, size, smallest
from seckill_cli.preflight.model import USE
from seckill_cli.scale.costs import STAGES, Cost, Costs

BENCH = Path(__file__).parents[1]
SCALE = BENCH / "results" / "scale.json"
RESULTS = BENCH / "results" / "capacity.json"
PICTURES = BENCH.parent / "docs" / "pictures"
ATTEMPTS, ORDERS = 100_000.0, 10_000.0
# Attempts a second of the plots.
CURVE = (1_000, 2_000, 4_000, 6_000, 8_000, 10_000, 12_500)
RATES = (5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000)


def scenarios(share: float) -> tuple[Scenario, ...]:
    """Return the mixtures in which this share of the attempts reserves."""
    return (
        Scenario(title="sold out is refused by the gateway", gone=1 - share),
        Scenario(title="sold out is refused by Envoy", gone=1 - share, edge=True),
        Scenario(title="each attempt is decided by Redis", granted=share),
        Scenario(
            title="refused by the gateway; a new buyer's token before every second attempt",
            gone=1 - share,
            tokens=0.5,
        ),
    )


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.capacity", description=__doc__)
    parser.add_argument("--attempts", type=float, default=ATTEMPTS, help="a second")
    parser.add_argument("--orders", type=float, default=ORDERS, help="a second, of the attempts")
    parser.add_argument("--price", type=float, help="of a core for an hour, in your currency")
    parser.add_argument("--plots", action="store_true", help="draw the plots of docs/capacity.md")
    given = parser.parse_args()
    if not 0 < given.orders <= given.attempts:
        parser.error("--orders must be more than 0, and at most --attempts")
    if given.price is not None and not given.price >= 0:
        parser.error("--price must not be negative")
    return given


def costs_of(document: Mapping[str, Any]) -> Costs:
    """Return the costs that were measured with the check of the model."""
    return Costs(
        {
            stage: {
                step: Cost(cost["batch"] / 1e6, cost["item"] / 1e6) for step, cost in steps.items()
            }
            for stage, steps in document["costs_us"].items()
        }
    )


def sized(scenario: Scenario, found: Size, price: float | None) -> dict[str, Any]:
    """Return what goes into the document."""
    answers = found.outcome.answers
    told: dict[str, Any] = {
        "scenario": scenario.title,
        "needed": dict(found.needed),
        "used": {stage: round(used, 3) for stage, used in found.used.items() if used},
        "cores": found.cores,
        "core_hours_an_hour": found.cores,
        "attempts_in_a_batch": round(found.outcome.batch, 1),
        "p99_ms": round(answers.latency_s(0.99) * 1000, 1),
        "orders_a_second": round(found.outcome.orders / (found.outcome.written_s or 1)),
    }
    if price is not None:
        told["price_an_hour"] = round(price * found.cores, 2)
    return told


def lines(document: Mapping[str, Any]) -> list[str]:
    """Return the table for people: processes of each stage, cores, price."""
    head = ["", *(pictures.NAMES[stage] for stage in STAGES), "cores", "p99"]
    priced = any("price_an_hour" in one for one in document["sizes"])
    head += ["price an hour"] if priced else []
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in document["sizes"]:
        counts = (str(one["needed"].get(stage, "")) for stage in STAGES)
        row = [one["scenario"], *counts, str(one["cores"]), f"{one['p99_ms']:.0f} ms"]
        row += [f"{one['price_an_hour']:.2f}"] if priced else []
        rows.append(f"| {' | '.join(row)} |")
    return rows


def draw(costs: Costs, share: float) -> None:
    """Write the plots."""
    first, *_ = scenarios(share)
    one = smallest(first)
    curve = [(float(rate), run(one, costs, first, rate_per_s=rate).used) for rate in CURVE]
    sizes = [(float(rate), size(costs, first, rate_per_s=rate).needed) for rate in RATES]
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, drawn in (
        ("capacity-use", pictures.use_of_one(curve)),
        ("capacity-cores", pictures.cores_by_rate(sizes)),
    ):
        (PICTURES / f"{name}.svg").write_bytes(drawn)


def main() -> int:
    """Simulate, write, print; return the exit status."""
    given = arguments()
    if not SCALE.exists():
        print("capacity: there are no costs: `make scale-check` measures them", file=sys.stderr)
        return 1
    checked = json.loads(SCALE.read_text())
    costs, share = costs_of(checked), given.orders / given.attempts
    found = []
    for scenario in scenarios(share):
        found.append(sized(scenario, size(costs, scenario, rate_per_s=given.attempts), given.price))
        print(f"{scenario.title}: {found[-1]['cores']} cores", file=sys.stderr, flush=True)
    document = {
        "attempts_per_s": given.attempts,
        "orders_per_s": given.orders,
        "use": USE,
        "sizes": found,
        "costs_of": {key: checked[key] for key in ("when", "commit", "machine", "error")},
    }
    if given.plots:
        draw(costs, share)
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(lines(document)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
