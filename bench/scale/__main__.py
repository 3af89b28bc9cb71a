"""`python -m bench.scale`: is the scale model true on this machine?

Starts the real servers, one and then two of each stage, measures costs on the first, foretells what
crowds come to on all of them, and lets the crowds come. Writes results/scale.json.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from bench import report
from bench.sample import InvalidSample
from bench.scale.check import compare, measure, read
from devstack import StackError
from tools.install import TOOLS, install

BENCH = Path(__file__).parents[1]
LATEST = BENCH / "results" / "latest.json"
RESULTS = BENCH / "results" / "scale.json"


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file")
    parser.add_argument(
        "--again", type=Path, help="foretell the runs of this document again, without any run"
    )
    return parser.parse_args()


def run(directory: Path) -> dict[str, Any]:
    """Measure, compare, and return the document."""
    start_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - start_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
    }
    measured = measure(directory, say=say)
    facts["versions"] = report.versions(measured.versions, go=None)
    found = compare(measured, json.loads(LATEST.read_text()))
    return {**found, **facts, "seconds": round(time.monotonic() - start_s, 1)}


def again(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with what the model foretells now."""
    return {**document, **compare(read(document), json.loads(LATEST.read_text()))}


def lines(document: Mapping[str, Any]) -> list[str]:
    """Return the table for people."""
    head = ["mesh", "crowd", "attempts a second", "foretold", "error"]
    head += ["orders written after", "foretold", "error"]
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in document["runs"]:
        mark = f" (unfit: {one['unfit']})" if one["unfit"] else ""
        seen, foretold, errors = one["seen"], one["foretold"], one["errors"]
        rows.append(
            f"| {one['setup']} | {one['visit']}{mark} | {seen['rate_per_s']:,.0f} |"
            f" {foretold['rate_per_s']:,.0f} | {errors['rate']:.1%} | {seen['written_s']:.2f} s |"
            f" {foretold['written_s']:.2f} s | {errors['written']:.1%} |"
        )
    return rows


def write(document: Mapping[str, Any], output: Path) -> int:
    """Write a document, print its table; return the exit status."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(lines(document)))
    print(f"written to {output}")
    return 0


def main() -> int:
    """Check, write, print; return the exit status."""
    given = arguments()
    if given.again:
        return write(again(json.loads(given.again.read_text())), given.output)
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = install([tool for tool in TOOLS if tool.name == "bench-load"])
    if status:
        return status
    directory = Path(tempfile.mkdtemp(prefix="seckill-scale-"))
    try:
        document = run(directory)
    except (StackError, InvalidSample, grpc.RpcError, TimeoutError) as error:
        print(f"scale: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scale: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return write(document, given.output)


if __name__ == "__main__":
    sys.exit(main())
