"""Processes of the mesh for a measurement, each on ports of its own."""

import dataclasses
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.base import Release
from bench.cores import pin
from devstack import Process, ProcessSpec, Stores
from devstack.deadline import drive
from devstack.mesh import SERVICES, Ports, claim_ports, service_environment, service_specs
from seckill.runtime.dev_issuer import DevIssuer, load_or_create

# The development settings, but: tokens that last for a whole run; every bucket in use, those
# shared by all callers too large to refuse, Envoy's too; and loopback addresses are no exception.
# The gateway believes Envoy about its callers' addresses, as it does wherever Envoy is in front.
# Envoy logs no call: a line for each refusal would be measured with it.
SETTINGS: Mapping[str, str] = {
    "SECKILL_LOG_LEVEL": "warning",
    "SECKILL_GATEWAY_TOKEN_TTL_S": "7200",
    "SECKILL_GATEWAY_RATE_ALL": "10000000",
    "SECKILL_GATEWAY_BURST_ALL": "10000000",
    "SECKILL_GATEWAY_RATE_IP": "10000000",
    "SECKILL_GATEWAY_BURST_IP": "10000000",
    "SECKILL_GATEWAY_RATE_IP_ORDERS": "10000000",
    "SECKILL_GATEWAY_BURST_IP_ORDERS": "10000000",
    "SECKILL_GATEWAY_RATE_IP_ISSUE": "10000000",
    "SECKILL_GATEWAY_BURST_IP_ISSUE": "10000000",
    "SECKILL_GATEWAY_IP_EXEMPT": "",
    "SECKILL_GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
    "SECKILL_EDGE_RATE_IP": "10000000",
    "SECKILL_EDGE_BURST_IP": "10000000",
    "SECKILL_EDGE_ACCESS_LOG": "off",
}
_ANY_PORT = {
    variable: "0"
    for service in SERVICES
    for variable in (service.port_variable, service.metrics_port_variable)
}


@dataclass(frozen=True)
class Service:
    """A running process of the mesh.

    Attributes:
        address: where its gRPC server is.
        metrics_url: its metrics, for Prometheus.
        startup_s: seconds from its start until it was ready.
    """

    process: Process
    address: str
    metrics_url: str
    startup_s: float

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self) -> None:
        """Let it drain, and end it."""
        self.process.stop()


class Services:
    """Starts processes of the mesh on given stores."""

    def __init__(self, stores: Stores, *, directory: Path) -> None:
        self.issuer: DevIssuer = load_or_create(directory / "secrets")
        self._stores = stores
        self._directory = directory
        self._ports = claim_ports(_ANY_PORT)
        self._started = 0

    def environment(self) -> dict[str, str]:
        """What a process beside the services needs to find those that the others call."""
        return self._environment(self._ports)

    def _environment(self, ports: Mapping[str, Ports]) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if "SECKILL_" not in key},
            **service_environment(self._stores, ports=ports, issuer=self.issuer),
            **SETTINGS,
        }

    def start(
        self,
        name: str,
        *,
        cores: Collection[int],
        nice: int = 0,
        settings: Mapping[str, str] | None = None,
        main: bool = False,
        release: Release | None = None,
    ) -> Service:
        """Start one process and wait until it is ready.

        Args:
            name: gateway, inventory, order or rollback.
            cores, nice: the cores it runs on, and its priority.
            settings: SECKILL_ variables that differ from those of the others.
            main: the one that the others call; any other gets ports of its own.
            release: another one than this repository's.

        Raises:
            StackError: it does not become ready.
        """
        ports = {**self._ports} if main else {**self._ports, name: claim_ports(_ANY_PORT)[name]}
        environment = {**self._environment(ports), **(settings or {})}
        self._started += 1
        directory = self._directory / f"{name}-{self._started}"
        specs = service_specs(environment, ports=ports, directory=directory)
        spec = next(spec for spec in specs if spec.name == name)
        if release is not None:
            spec = _of_release(spec, release)
        start_s = time.monotonic()
        process = Process(spec)
        drive([process.wait_ready()])
        startup_s = time.monotonic() - start_s
        pin(process.pid, cores, nice=nice)
        metrics_url = f"http://127.0.0.1:{ports[name].metrics}/metrics"
        return Service(process, spec.address, metrics_url, startup_s)


def _of_release(spec: ProcessSpec, release: Release) -> ProcessSpec:
    return dataclasses.replace(
        spec,
        command=[str(release.python), *spec.command[1:]],
        env={**(spec.env or {}), "PYTHONPATH": str(release.root)},
        cwd=release.root,
    )


def start_program(command: list[str], *, name: str, directory: Path, address: str) -> Process:
    """Start a program that is not a service; wait until `address` takes connections."""
    process = Process(
        ProcessSpec(
            name=name,
            command=command,
            log_path=directory / f"{name}.log",
            env={**os.environ, "GOMAXPROCS": "1"},
            cwd=Path(__file__).parents[1],
            ready=lambda: _accepts(address),
            address=address,
        )
    )
    drive([process.wait_ready()])
    return process


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of this repository."""
    return [sys.executable, "-m", name, *arguments]


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=0.5):
            return True
    except OSError:
        return False
