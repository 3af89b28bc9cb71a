"""`python -m bench.preflight`: is the forecast of `seckill preflight` true?

Starts the real servers, the path of a purchase on one core. Rehearses sales of three sizes, for a
few seconds each, and compares what is forecast from that with what a sale of the size then reaches
if the generator of the bench offers it. Writes results/preflight.json.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from bench import report
from bench.cores import Cores
from bench.load import Load
from bench.mesh import Mesh
from bench.preflight.comparison import ERROR_MAX, SIZES, Comparison, Size
from bench.sample import InvalidSample
from devstack import StackError
from tools.install import BIN, TOOLS, install

RESULTS = Path(__file__).parents[1] / "results" / "preflight.json"
# Of other sizes than the usual ones, which must not pass for the result of this release.
SCRATCH = Path(__file__).parents[2] / "build" / "bench" / "preflight.json"


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.preflight", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual sizes, 0 to 1")
    parser.add_argument("--output", type=Path, help="the file; build/bench/… for another share")
    given = parser.parse_args()
    if not 0 < given.share <= 1:
        parser.error("--share must be more than 0, and at most 1")
    given.output = given.output or (RESULTS if given.share == 1 else SCRATCH)
    return given


def compare(share: float, directory: Path) -> dict[str, Any]:
    """Return the document of one run."""
    start_s = time.monotonic()
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
    }

    def say(what: str) -> None:
        print(f"{time.monotonic() - start_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    say("starting")
    split = Cores.split()
    # What is started from here on, but for the path of a purchase.
    os.sched_setaffinity(0, split.others)
    with Mesh(directory) as mesh, mesh.gateway({}) as gateway:
        mesh.place(gateway, split)
        with Load(BIN / "bench-load", cores=split.others) as load:
            comparison = Comparison(mesh, gateway, load, say=say)
            found = [
                comparison.run(
                    Size(one.name, max(1, int(one.buyers * share)), max(1, int(one.units * share)))
                )
                for one in SIZES
            ]
        facts["versions"] = report.versions(mesh.versions, go=None)
    return {
        "error": max(one["error"] for one in found),
        "error_max": ERROR_MAX,
        "sizes": found,
        **facts,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def lines(document: dict[str, Any]) -> list[str]:
    """Return the table for people."""
    head = ("sale", "buyers", "units", "forecast", "reached", "error", "p99 rehearsed")
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in document["sizes"]:
        mark = f" (unfit: {one['unfit']})" if one["unfit"] else ""
        rows.append(
            f"| {one['name']}{mark} | {one['buyers']:,} | {one['units']:,} |"
            f" {one['forecast_per_s']:,.0f}/s | {one['reached_per_s']:,.0f}/s |"
            f" {one['error']:.1%} | {one['rehearsed']['p99_ms']:.1f} ms |"
        )
    return rows


def main() -> int:
    """Compare, write, print; return the exit status."""
    given = arguments()
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = install([tool for tool in TOOLS if tool.name == "bench-load"])
    if status:
        return status
    directory = Path(tempfile.mkdtemp(prefix="seckill-preflight-"))
    try:
        document = compare(given.share, directory)
    except (StackError, InvalidSample, grpc.RpcError, TimeoutError) as error:
        print(f"preflight: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("preflight: interrupted, nothing was written", file=sys.stderr)
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
