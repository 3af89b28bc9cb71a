"""Compares what the model foretells with what real runs come to."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cores import Cores, usable
from bench.mesh import BEHIND_NICER, Mesh
from bench.scale.calibration import Shares, calibrate
from bench.scale.real import PATH, REPLICATED, RealMesh, Seen
from bench.scale.setups import CALIBRATION, CHECKS, CONNECTIONS, FULL, ONE, Setup, Visit
from seckill_cli.preflight.model import error_of
from seckill_cli.scale.costs import KAFKA, LOAD, ORDERS, POSTGRES, Costs
from seckill_cli.scale.crowd import Crowd
from seckill_cli.scale.layout import Layout, Pool
from seckill_cli.scale.simulation import Outcome, simulate

# Beyond it the model is of no use (../../docs/capacity.md).
ERROR_MAX = 0.2
BEHIND = (ORDERS, KAFKA, POSTGRES)
Say = Callable[[str], object]


@dataclass(frozen=True)
class Measured:
    """What was seen on a machine.

    Attributes:
        calibration: visit → its runs, on one of each with a core for the path.
        checks: setup and visit → its run.
        idle: stage → cores that one process of it uses while nobody calls.
        versions: of the stores.
    """

    calibration: Mapping[Visit, Sequence[Seen]]
    checks: Mapping[tuple[Setup, Visit], Seen]
    idle: Mapping[str, float]
    versions: Mapping[str, str]


def measure(directory: Path, *, say: Say) -> Measured:
    """Run everything."""
    calibration: dict[Visit, list[Seen]] = {}
    checks: dict[tuple[Setup, Visit], Seen] = {}
    idle: dict[str, float] = {}
    with Mesh(directory) as mesh:
        for setup in dict.fromkeys((ONE, *(setup for setup, _ in CHECKS))):
            with ExitStack() as exits:
                say(f"{setup.name}: starting")
                real = RealMesh(mesh, setup, exits)
                real.settle_in()
                if setup == ONE:
                    idle = real.idle
                    # The first crowd finds cold caches, and code that is compiled only now.
                    real.visit(FULL)
                    for visit, times in CALIBRATION.items():
                        say(f"costs: {visit.name}")
                        calibration[visit] = [real.visit(visit) for _ in range(times)]
                for visit in (visit for one, visit in CHECKS if one == setup):
                    say(f"{setup.name}: {visit.name}")
                    checks[setup, visit] = real.visit(visit)
        return Measured(calibration, checks, idle, dict(mesh.versions))


def compare(measured: Measured, latest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model foretells of what was measured, and by how much it is wrong."""
    costs = calibrate(measured.calibration, Shares.of(latest))
    found = [
        compared(setup, visit, costs, measured.idle, seen)
        for (setup, visit), seen in measured.checks.items()
    ]
    return {
        "error": max(max(one["errors"].values()) for one in found),
        "error_median": round(
            statistics.median(error for one in found for error in one["errors"].values()), 4
        ),
        "error_cpu": max(one["error_cpu"] for one in found),
        "error_max": ERROR_MAX,
        "runs": found,
        "costs_us": costs.as_us(),
        "idle_cores": {stage: round(used, 4) for stage, used in measured.idle.items()},
        "calibration": {
            visit.name: [as_document(seen) for seen in runs]
            for visit, runs in measured.calibration.items()
        },
    }


def read(document: Mapping[str, Any]) -> Measured:
    """Return what was measured, from a document of `compare`."""
    visits = {visit.name: visit for visit in (*CALIBRATION, *(visit for _, visit in CHECKS))}
    setups = {setup.name: setup for setup, _ in CHECKS}
    return Measured(
        calibration={
            visits[name]: [Seen(**seen) for seen in runs]
            for name, runs in document["calibration"].items()
        },
        checks={
            (setups[one["setup"]], visits[one["visit"]]): Seen(**one["seen"])
            for one in document["runs"]
        },
        idle=document["idle_cores"],
        versions=document["versions"],
    )


def compared(
    setup: Setup, visit: Visit, costs: Costs, idle: Mapping[str, float], seen: Seen
) -> dict[str, Any]:
    """Foretell a visit, and compare."""
    expected = foretell(setup, visit, costs, idle)
    written_s = expected.written_s or 0.0
    return {
        "setup": setup.name,
        "visit": visit.name,
        "buyers": visit.buyers,
        "units": visit.units,
        "foretold": {
            "rate_per_s": round(expected.rate_per_s, 1),
            "written_s": round(written_s, 3),
            "attempts": round(expected.batch, 1),
            "cpu_s": {stage: round(used, 3) for stage, used in expected.cpu_s.items()},
            "p99_ms": round(expected.answers.latency_s(0.99) * 1000, 1),
        },
        "seen": as_document(seen),
        # What all stages used until the last order, whatever else had the cores.
        "error_cpu": round(error_of(_cpu_s(expected.cpu_s), _cpu_s(seen.cpu_s)), 4),
        "errors": {
            "rate": round(error_of(expected.rate_per_s, seen.rate_per_s), 4),
            "written": round(error_of(written_s, seen.written_s), 4),
        },
        "unfit": seen.unfit,
    }


def _cpu_s(by_stage: Mapping[str, float]) -> float:
    """Return what the mesh has used, without the generator."""
    return sum(used for stage, used in by_stage.items() if stage != LOAD)


def foretell(setup: Setup, visit: Visit, costs: Costs, idle: Mapping[str, float]) -> Outcome:
    """Simulate a visit on this machine's cores."""
    crowd = (
        Crowd(rate_per_s=visit.rate_per_s, seconds=visit.buyers / visit.rate_per_s)
        if visit.rate_per_s
        else Crowd(in_flight=CONNECTIONS * visit.in_flight, total=visit.buyers)
    )
    return simulate(layout_of(setup, idle), costs, crowd, units=visit.units)


def layout_of(setup: Setup, idle: Mapping[str, float]) -> Layout:
    """Return the processes and cores of a setup; what idle processes use is not there for work."""
    replicas = dict.fromkeys(REPLICATED, setup.replicas) | {LOAD: 1}
    used = {stage: idle.get(stage, 0.0) * replicas.get(stage, 1) for stage in (*PATH, *BEHIND)}
    path = dict.fromkeys(PATH, 0)
    others = dict.fromkeys(BEHIND, BEHIND_NICER) | {LOAD: 0}
    if setup.split:
        split = Cores.split()
        pools: tuple[Pool, ...] = (
            Pool(len(split.servers) - sum(used[stage] for stage in PATH), path),
            Pool(len(split.others) - sum(used[stage] for stage in BEHIND), others),
        )
    else:
        pools = (Pool(len(usable()) - sum(used.values()), path | others),)
    return Layout(replicas=replicas, pools=pools)


def as_document(seen: Seen) -> dict[str, Any]:
    """Return what was seen, with rounded figures."""
    return {
        "rate_per_s": round(seen.rate_per_s, 1),
        "written_s": round(seen.written_s, 3),
        "p99_ms": round(seen.p99_ms, 1),
        "cpu_s": {stage: round(used, 3) for stage, used in seen.cpu_s.items()},
        "items": {name: round(items, 1) for name, items in seen.items.items()},
        "issue_us": {stage: round(us, 1) for stage, us in seen.issue_us.items()},
        "outcomes": dict(seen.outcomes),
        "unfit": seen.unfit,
    }
