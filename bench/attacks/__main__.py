"""`python -m bench.attacks`: what an honest buyer notices while one address attacks.

Starts the real servers, lets buyers come at a steady pace, attacks in one way after the other, and
writes results/attacks.json: the buyers' p99 in quiet and under each attack, how much the processes
have grown, and what the gateway remembers of ten million users and addresses.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench import report
from bench.attacks.attacks import ATTACKS, attack
from bench.attacks.honest import BUYERS_PER_S, Waits, buy
from bench.attacks.keys import KEYS, measure_keys
from bench.mesh import Mesh
from devstack import StackError

RESULTS = Path(__file__).parents[1] / "results" / "attacks.json"
# As an installation has them: those of the bench do not refuse.
GATEWAY_SETTINGS: Mapping[str, str] = {
    f"SECKILL_GATEWAY_{name}": str(default)
    for name, default in (
        ("RATE_ALL", 20_000),
        ("BURST_ALL", 20_000),
        ("RATE_IP", 200),
        ("BURST_IP", 400),
        ("TRUSTED_PROXIES", ""),
    )
}
SKU = "besieged"
UNITS = 1_000_000
MIB = 2**20
# The attacker's connections are made within this time.
SETTLE_S = 1.0


@contextmanager
def attacking(name: str, address: str) -> Iterator[None]:
    """Attack from a process of its own."""
    process = get_context("spawn").Process(target=attack, args=(name, address))
    process.start()
    try:
        time.sleep(SETTLE_S)
        yield
        if process.exitcode is not None:
            raise StackError(f"the attacker has ended by itself: {name}")
    finally:
        process.terminate()
        process.join()


class Siege:
    """Measures quiet and attack in turn."""

    def __init__(self, mesh: Mesh, address: str, pids: Mapping[str, int], *, seconds: float):
        """
        Args:
            mesh: that runs.
            address: of its gateway.
            pids: of the processes that must not grow, by name.
            seconds: of each measurement.
        """
        self._mesh = mesh
        self._address = address
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._seconds = seconds

    def run(self) -> dict[str, Any]:
        """Return the figures by attack."""
        self._waits()
        return {name: self._face(name) for name in ATTACKS}

    def _face(self, name: str) -> dict[str, Any]:
        before = self._resident_mib()
        quiet = [self._waits()]
        with attacking(name, self._address):
            attacked = self._waits()
            during = self._resident_mib()
        quiet.append(self._waits())
        quiet_ms = median(one.percentile_ms(0.99) for one in quiet)
        found = {
            "p50_ms": round(attacked.percentile_ms(0.5), 2),
            "p99_ms": round(attacked.percentile_ms(0.99), 2),
            "p99_quiet_ms": round(quiet_ms, 2),
            "p99_vs_quiet": round(attacked.percentile_ms(0.99) / quiet_ms, 2),
            "answered": len(attacked.answered_s),
            "failed": attacked.failed,
            "grown_mib": {
                process: round(during[process] - before[process], 1) for process in before
            },
        }
        print(f"{name:14} {found}", file=sys.stderr, flush=True)
        return found

    def _waits(self) -> Waits:
        return asyncio.run(buy(self._address, SKU, self._mesh.issuer, seconds=self._seconds))

    def _resident_mib(self) -> dict[str, float]:
        return {name: one.memory_info().rss / MIB for name, one in self._processes.items()}


def measure(directory: Path, *, seconds: float) -> dict[str, Any]:
    """Return the document of one run."""
    facts: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": report.commit(),
        "machine": report.machine(),
        "seconds_each": seconds,
        "buyers_per_s": BUYERS_PER_S,
    }
    with Mesh(directory) as mesh, mesh.gateway(GATEWAY_SETTINGS) as gateway:
        mesh.create_sale(SKU, units=UNITS, starts_s=time.time() - 1)
        pids = {
            "gateway": gateway.pid,
            "inventory": mesh.inventory.pid,
            "order": mesh.order.pid,
        }
        found = Siege(mesh, gateway.address, pids, seconds=seconds).run()
        facts["versions"] = report.versions(mesh.versions, go=None)
    # In a process that has done nothing else.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        remembered = pool.submit(measure_keys, KEYS).result()
    print(f"{'keys':14} {remembered}", file=sys.stderr, flush=True)
    return {"attacks": found, "remembered": remembered, **facts}


def main() -> int:
    """Measure, write, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    # As for Ctrl-C: everything that was started is stopped in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="seckill-attacks-"))
    try:
        document = measure(directory, seconds=given.seconds)
    except (StackError, ValueError) as error:
        print(f"attacks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("attacks: interrupted, nothing was written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
