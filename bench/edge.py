"""Envoy and its agent in front of the mesh, as `make up` starts them."""

import dataclasses
import time
import urllib.request
from collections.abc import Collection
from pathlib import Path

from bench.cores import pin
from bench.sample import InvalidSample
from bench.services import SETTINGS, Services
from devstack import Process, ProcessSpec, StackError
from devstack.deadline import drive
from devstack.edge import (
    AGENT,
    ENVOY,
    claim_edge_ports,
    edge_environment,
    edge_ports,
    edge_specs,
    find_envoy,
)
from devstack.ports import LOOPBACK

FREE_PORTS = {port.variable: "0" for port in edge_ports()}
# Calls sent to the gateway; Envoy's health checks are not among them.
PASSED_ON = 'envoy_cluster_upstream_rq_total{envoy_cluster_name="gateway"} '
STATS_TIMEOUT_S = 10.0
# The share of refusals that must have been Envoy's own.
OWN_LEAST = 0.999


class Edge:
    """The two processes.

    Attributes:
        address: host:port for the public.
        pids: by process.
        startup_s: seconds from the start of each until it was ready.
    """

    def __init__(self, services: Services, *, directory: Path, cores: Collection[int]) -> None:
        """Start both and wait until they are ready.

        Raises:
            StackError: there is no Envoy for this machine, or it does not become ready.
        """
        envoy = find_envoy()
        if envoy is None:
            raise StackError("there is no Envoy for this machine")
        ports = claim_edge_ports(FREE_PORTS)
        environment = {
            **services.environment(),
            **edge_environment(ports=ports, directory=directory),
            **SETTINGS,
        }
        self.address = f"{LOOPBACK}:{ports.public}"
        self.pids: dict[str, int] = {}
        self.startup_s: dict[str, float] = {}
        self._stats = f"http://{LOOPBACK}:{ports.stats}/metrics"
        self._processes: list[Process] = []
        try:
            for spec in edge_specs(envoy, environment, ports=ports, directory=directory):
                self._start(_on(spec, cores), cores)
        except BaseException:
            self.stop()
            raise

    def _start(self, spec: ProcessSpec, cores: Collection[int]) -> None:
        process = Process(spec)
        self._processes.append(process)
        start_s = time.monotonic()
        drive([process.wait_ready()])
        if spec.ready is not None:
            self.startup_s[spec.name] = time.monotonic() - start_s
        pin(process.pid, cores)
        self.pids[spec.name] = process.pid

    def stop(self) -> None:
        """Stop both."""
        while self._processes:
            self._processes.pop().stop()

    def passed_on(self) -> int:
        """Calls that Envoy has sent to the gateway since its start."""
        with urllib.request.urlopen(self._stats, timeout=STATS_TIMEOUT_S) as answer:  # noqa: S310 - our own
            for line in answer.read().decode().splitlines():
                if line.startswith(PASSED_ON):
                    return int(line.removeprefix(PASSED_ON))
        return 0


def _on(spec: ProcessSpec, cores: Collection[int]) -> ProcessSpec:
    """With as many threads as cores, which is what Envoy would choose by itself."""
    command = list(spec.command)
    if spec.name == ENVOY:
        command[command.index("--concurrency") + 1] = str(len(cores))
    return dataclasses.replace(spec, command=command)


def require_own(*, calls: int, passed_on: int) -> None:
    """Envoy must have answered nearly all of these calls by itself. Raises InvalidSample."""
    if passed_on > (1 - OWN_LEAST) * calls:
        raise InvalidSample(f"{passed_on} of {calls} calls were passed on to the gateway")


__all__ = ["AGENT", "ENVOY", "Edge", "require_own"]
