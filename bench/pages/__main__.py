"""`python -m bench.pages`: what the traffic of fifty browsers costs purchases.

Starts the real servers on one core, Envoy among them. Writes results/pages.json:

- the part of that core that each process takes while fifty browsers are at the sale's page and
  nobody buys (browsers.py says what they ask for);
- purchases a second as JSON through Envoy with the browsers and without, and their ratio by pair.
  Without them a process takes as much of the other core as they did (busy.py): visitors have
  machines of their own, and what two cores take of each other is none of the servers' cost.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from bench import report
from bench.__main__ import OWN_TOOLS
from bench.cores import children_on, cpu_s
from bench.measures.public import purchase_json
from bench.pages.figures import Pair, figures
from bench.sample import InvalidSample, Sample
from bench.sizes import FULL, QUICK
from bench.world import PUBLIC_PATH, World
from devstack import StackError
from tools.install import TOOLS, find_go, install

RESULTS = Path(__file__).parents[1] / "results" / "pages.json"
SCRATCH = Path(__file__).parents[2] / "build" / "bench" / "pages.json"
BROWSERS = 50
BUYERS = 20_000
QUICK_BUYERS = 5_000
PAIRS_MAX = 6
# A pair does not start later than this, so that the run ends within four minutes.
UNTIL_S = 150.0
STOP_TIMEOUT_S = 10.0
# How long CPU is measured while nobody buys: the stay of a visitor, so that each has come once.
ALONE_S = 12.0


def _page_sale(world: World) -> str:
    """Create the sale of the page: inventory may not have found the order service yet.

    Raises:
        InvalidSample: it does not in time.
    """
    created: list[str] = []

    def create() -> bool:
        try:
            created.append(world.create_sale(units=1_000_000, prefix="page"))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        return bool(created)

    world.poll_until(create)
    return created[0]


class Browsers:
    """The process of the browsers, and one that takes as much CPU in their place."""

    def __init__(self, world: World) -> None:
        self._sku = _page_sale(world)
        self._address = world.edge.address
        self._cores = world.cores.others
        # Of a core, taken by the browsers when they were measured last.
        self._share = 0.0

    @contextmanager
    def browsing(self) -> Iterator[dict[str, float]]:
        """Have them look meanwhile; what is yielded holds what they did, once it is over.

        Raises:
            InvalidSample: they ended by themselves, or were told of faults.
        """
        command = [sys.executable, "-m", "bench.pages.browsers", self._address, self._sku]
        with children_on(self._cores):
            process = subprocess.Popen([*command, str(BROWSERS)], stdout=subprocess.PIPE, text=True)
        did: dict[str, float] = {}
        assert process.stdout is not None  # noqa: S101 - a pipe
        try:
            if process.stdout.readline() != "ready\n":
                raise InvalidSample("the browsers did not see the page")
            start_s, used_s = time.monotonic(), cpu_s(process.pid)
            yield did
            self._share = (cpu_s(process.pid) - used_s) / (time.monotonic() - start_s)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=STOP_TIMEOUT_S)
            did |= json.loads(said)
            if did["failed"]:
                raise InvalidSample(f"{did['failed']:.0f} calls of the browsers failed")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    @contextmanager
    def absent(self) -> Iterator[None]:
        """Take as much of their core meanwhile as they took the last time, and ask nobody."""
        command = [sys.executable, "-m", "bench.pages.busy", f"{self._share:.3f}"]
        with children_on(self._cores):
            process = subprocess.Popen(command)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def measure_alone(world: World, browsers: Browsers) -> dict[str, float]:
    """Return the part of a core that each process takes for the browsers, while nobody buys."""
    clocks = world.clocks(*PUBLIC_PATH)

    def used() -> dict[str, float]:
        before = clocks()
        time.sleep(ALONE_S)
        return {name: (after - before[name]) / ALONE_S for name, after in clocks().items()}

    idle = used()
    with browsers.browsing():
        busy = used()
    return {name: round(max(0.0, busy[name] - idle[name]), 4) for name in idle}


def measure_pair(world: World, browsers: Browsers, *, pages_first: bool) -> Pair:
    """Measure once with and once without the browsers, either of them first."""
    traffic: Mapping[str, float] = {}

    def alone() -> dict[str, Sample]:
        with browsers.absent():
            return purchase_json(world)

    def beside() -> dict[str, Sample]:
        nonlocal traffic
        with browsers.browsing() as did:
            found = purchase_json(world)
        traffic = did
        return found

    found = {}
    for with_pages in (pages_first, not pages_first):
        found[with_pages] = world.quiet.measure(beside if with_pages else alone)["purchase_json"]
    return Pair(without=found[False], with_pages=found[True], traffic=traffic)


def measure(directory: Path, *, quick: bool) -> dict[str, Any]:
    """Return the document of one run."""
    start_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - start_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    sizes = dataclasses.replace(
        QUICK if quick else FULL,
        public_buyers=QUICK_BUYERS if quick else BUYERS,
        quiet_budget_s=20.0,
    )
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
        "browsers": BROWSERS,
        "buyers": sizes.public_buyers,
    }
    pairs: list[Pair] = []
    with World(sizes, directory=directory) as world:
        world.quiet.say = say
        browsers = Browsers(world)
        # The first purchases fill tables and make identities known.
        purchase_json(world)
        facts["core_share_of_pages"] = measure_alone(world, browsers)
        say(f"of a core: {facts['core_share_of_pages']}")
        while len(pairs) < (1 if quick else PAIRS_MAX) and time.monotonic() - start_s < UNTIL_S:
            pairs.append(measure_pair(world, browsers, pages_first=len(pairs) % 2 == 1))
            say(f"ratio {pairs[-1].rate_ratio:.3f}")
        facts["versions"] = report.versions(world.versions, go=find_go())
    return {**figures(pairs), **facts, "seconds": round(time.monotonic() - start_s, 1)}


def main() -> int:
    """Measure, write, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small pair, into build/bench")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = install([tool for tool in TOOLS if tool.name in OWN_TOOLS])
    if status:
        return status
    directory = Path(tempfile.mkdtemp(prefix="seckill-pages-"))
    try:
        document = measure(directory, quick=given.quick)
    except (StackError, RuntimeError, InvalidSample) as error:
        print(f"pages: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pages: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    output: Path = given.output or (SCRATCH if given.quick else RESULTS)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps({name: document[name] for name in ("fit", "ratio", "noise", "measurable")}))
    print(f"written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
