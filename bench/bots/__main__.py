"""`python -m bench.bots`: people and attackers at one sale, with the gate off and on.

Starts the real servers, lets 5,000 people and each of three kinds of attackers come to sales of 500
units, and writes results/bots.json: who got how much, what it cost, and who was disturbed.
"""

import argparse
import json
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report
from bench.bots.drill import Drill, Size
from bench.bots.gates import gates
from bench.bots.table import lines
from bench.mesh import Mesh
from devstack import StackError

RESULTS = Path(__file__).parents[1] / "results" / "bots.json"
# Of another size than the usual one, which must not pass for the result of this release.
SCRATCH = Path(__file__).parents[2] / "build" / "bench" / "bots.json"


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m bench.bots", description=__doc__)
    parser.add_argument("--people", type=int, default=usual.people)
    parser.add_argument("--units", type=int, default=usual.units)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument(
        "--slow", type=float, default=usual.slow, help="seconds for a second of the sale"
    )
    parser.add_argument(
        "--price", type=int, default=usual.price, help="of a challenge: its greatest number"
    )
    parser.add_argument(
        "--output", type=Path, help="the file; build/bench/bots.json for another size"
    )
    given = parser.parse_args()
    if min(given.people, given.units, given.slow, given.price) <= 0:
        parser.error("--people, --units, --slow and --price must be positive")
    given.size = Size(
        people=given.people,
        units=given.units,
        slow=given.slow,
        price=given.price,
        seed=given.seed,
    )
    given.output = given.output or (RESULTS if given.size == usual else SCRATCH)
    return given


def hold(size: Size, directory: Path) -> dict[str, Any]:
    """Return the document of one drill."""
    start_s = time.monotonic()
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
    }

    def say(what: str) -> None:
        print(f"{time.monotonic() - start_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    say("starting")
    context = multiprocessing.get_context("spawn")
    with Mesh(directory) as mesh, ProcessPoolExecutor(size.processes, mp_context=context) as pool:
        drill = Drill(mesh, pool, size, say=say)
        found = drill.run()
        facts["versions"] = report.versions(mesh.versions, go=None)
    return {
        **found,
        **facts,
        "size": asdict(size),
        "gates": {gate.name: dict(gate.switched_on) for gate in gates(size.slow, size.price)},
        "hash_us": round(drill.hash_s * 1e6, 4),
        "sales": drill.details,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def main() -> int:
    """Hold the drill, write, print; return the exit status."""
    given = arguments()
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="seckill-bots-"))
    try:
        document = hold(given.size, directory)
    except (StackError, TimeoutError, ValueError) as error:
        print(f"bots: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bots: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(lines(document)))
    print(f"written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
