"""`python -m bench`: measure the mesh beside its yardsticks.

Starts the real servers, pins the measured ones to one core and everything else to the others,
measures each pair side by side, several times, and writes results/latest.json and latest.md.
"""

import argparse
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report
from bench.measures.buckets import buckets_scaling
from bench.measures.replica_reads import replica_reads
from bench.measures.slot_move import slot_move
from bench.ratios import RATIOS, chosen
from bench.run import Run
from bench.sizes import FULL, QUICK, Sizes
from bench.world import World
from devstack import StackError
from tools.install import TOOLS, find_go, install

RESULTS = Path(__file__).with_name("results")
# Of quick and partial runs, which must not pass for the results of this release.
SCRATCH = Path(__file__).parents[1] / "build" / "bench"
OWN_TOOLS = ("bench-load", "bench-rival")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition")
    parser.add_argument(
        "--only",
        default="",
        metavar="KEYS",
        help=f"ratios to measure, separated by commas: {', '.join(one.key for one in RATIOS)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the results (bench/results; build/bench for a part or a quick run)",
    )
    given = parser.parse_args()
    given.keys = [key for key in given.only.split(",") if key]
    unknown = set(given.keys) - {one.key for one in RATIOS}
    if unknown:
        parser.error(f"no such ratio: {', '.join(sorted(unknown))}")
    given.output = given.output or (SCRATCH if given.quick or given.keys else RESULTS)
    return given


def measure(given: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The document of one run."""
    start_s = time.monotonic()
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
    }
    sizes: Sizes = QUICK if given.quick else FULL
    ratios = chosen(given.keys)

    def say(what: str) -> None:
        print(f"{time.monotonic() - start_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    say("starting")
    with World(sizes, directory=directory) as world:
        findings = Run(world, ratios, say=say).measure(further=not given.keys)
        facts |= {
            "versions": report.versions(world.versions, go=find_go()),
            "notes": world.notes,
            "curves": world.curves,
            "cpu_s": {name: round(used, 1) for name, used in world.used_cpu_s().items()},
            "memory_mib": {name: round(mib, 1) for name, mib in world.memory_mib().items()},
            "bytes_each": {name: round(size) for name, size in world.bytes_each.items()},
            "startup_s": {name: round(took, 2) for name, took in world.startup_s.items()},
        }
    if not given.keys:
        say("filling buckets")
        facts["buckets_scaling"] = buckets_scaling(directory)
        say("moving slots")
        gaps_ms = slot_move(directory)
        facts["slot_move_gap_ms"] = {name: round(gap, 1) for name, gap in gaps_ms.items()}
        say("reading from a replica")
        reads = replica_reads(directory)
        facts["replica_read_share"] = {name: round(figure, 3) for name, figure in reads.items()}
    name = "quick" if given.quick else "full"
    facts["sizes"] = {"name": name, **dataclasses.asdict(sizes)}
    facts["seconds"] = round(time.monotonic() - start_s, 1)
    return report.compose(findings, ratios, facts)


def main() -> int:
    """Build the tools, measure, write, print; the exit status."""
    given = arguments()
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = install([tool for tool in TOOLS if tool.name in OWN_TOOLS])
    if status:
        return status
    directory = Path(tempfile.mkdtemp(prefix="seckill-bench-"))
    try:
        document = measure(given, directory)
    except (StackError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(report.write(document, given.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
