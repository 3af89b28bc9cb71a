"""The load generator (bench/load, in Go) as an object: commands go in, samples come out."""

import json
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

from bench.cores import children_on, cpu_s
from bench.sample import InvalidSample, Sample
from seckill.runtime.dev_issuer import DevIssuer

# No command lasts as long; one that does is stuck.
COMMAND_TIMEOUT_S = 180.0
# Per call: a purchase that takes longer counts as lost.
CALL_TIMEOUT_S = 10.0
CONNECTIONS = 8
IN_FLIGHT = 64

Clocks = Callable[[], Mapping[str, float]]


def no_clocks() -> Mapping[str, float]:
    """Read no clocks: for commands whose cost is not measured."""
    return {}


class Load:
    """The generator's process; a context manager that ends it."""

    def __init__(self, binary: Path, *, cores: Collection[int], prefix: str = "buyer") -> None:
        """`prefix`: of the buyers' user ids; those of two generators must differ."""
        self._binary = binary
        self._prefix = prefix
        self._cores = cores
        self._process = self._start()
        self.buyers = 0

    def __enter__(self) -> Self:
        return self

    def _start(self) -> "subprocess.Popen[str]":
        with children_on(self._cores):
            return subprocess.Popen(
                [str(self._binary)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={"GOMAXPROCS": str(len(self._cores))},
            )

    def revive(self) -> None:
        """Start it again if it has ended; its buyers are gone then."""
        if self._process.poll() is not None:
            self._process = self._start()
            self.buyers = 0

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def mint(self, count: int, issuer: DevIssuer) -> None:
        """Make identities until there are `count` buyers; after a failure, all of them again."""
        self.revive()
        if count > self.buyers:
            self._command(
                {
                    "op": "mint",
                    "count": count - self.buyers,
                    "prefix": self._prefix,
                    "jwks": str(issuer.jwks_path),
                    "issuer": issuer.issuer,
                    "audience": issuer.audience,
                },
                no_clocks,
            )
            self.buyers = count

    def run(
        self,
        call: str,
        target: str,
        *,
        clocks: Clocks = no_clocks,
        connections: int = CONNECTIONS,
        in_flight: int = IN_FLIGHT,
        timeout_s: float = CALL_TIMEOUT_S,
        **more: Any,
    ) -> Sample:
        """Send calls and wait for all answers.

        Args:
            call: echo, issue, purchase, poll or pay (an order bought before); visible or paid:
                purchases followed that far.
            target: host:port.
            clocks: seconds of CPU by process, read right before and right after.
            connections, in_flight: connections, and calls in flight on each.
            timeout_s: for each call.
            more: sku, first, buyers, block, attempts, total, seconds, rate, transport, …: see
                load/main.go.

        Raises:
            InvalidSample: the generator could not go on; the message is its own.
        """
        command = {
            "op": "run",
            "call": call,
            "target": target,
            "connections": connections,
            "in_flight": in_flight,
            "timeout_s": timeout_s,
            **more,
        }
        return self._command(command, clocks)

    def run_scripts(self, **command: Any) -> Sample:
        """Run a script on Redis as redis-benchmark would; arguments: see load/main.go."""
        return self._command({"op": "redis", **command}, no_clocks)

    def _command(self, command: Mapping[str, Any], clocks: Clocks) -> Sample:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        stuck = threading.Timer(COMMAND_TIMEOUT_S, self._process.kill)
        stuck.start()
        try:
            before, own_s = clocks(), cpu_s(self._process.pid)
            self._process.stdin.write(json.dumps(command) + "\n")
            line = self._process.stdout.readline()
            if "ended" in line:
                after, own_s = clocks(), cpu_s(self._process.pid) - own_s
                line = self._process.stdout.readline()
        finally:
            stuck.cancel()
        if not line:
            raise InvalidSample(f"the load generator ended in the middle of {command}")
        answer = json.loads(line)
        if "error" in answer:
            raise InvalidSample(answer["error"])
        return Sample(
            calls=answer["calls"],
            seconds=answer["seconds"],
            cpu_s={name: after[name] - before[name] for name in before},
            statuses=answer["statuses"] or {},
            outcomes=answer["outcomes"] or {},
            latency_ms=answer["latency_ms"] or {},
            reconnects=answer["reconnects"],
            held_back=answer["held_back"],
            starved=answer["starved"],
            repeated=answer["repeated"],
            good_s=answer["good_seconds"],
            generator=own_s / max(answer["seconds"], 1e-3) / len(self._cores),
        )
