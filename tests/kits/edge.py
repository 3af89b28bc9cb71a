"""A real Envoy with its agent, in front of a test's gateway, and plain HTTP to call it."""

import os
import signal
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import grpc

from devstack import Process, ProcessSpec
from devstack.certificates import DevCertificates
from devstack.certificates import load_or_create as load_or_create_certificates
from devstack.console import operator_environment
from devstack.deadline import drive
from devstack.edge import (
    AGENT,
    ENVOY,
    EdgePorts,
    claim_edge_ports,
    edge_environment,
    edge_json,
    edge_ports,
    edge_specs,
    find_envoy,
)
from devstack.pages import FOLDER
from devstack.ports import LOOPBACK
from tests.kits.http import CALL_S, Answer, call
from tests.kits.planted_bug import chosen, command_with

FREE_PORTS = {port.variable: "0" for port in edge_ports()}
SERVICE = "seckill.v1.GatewayService"


class Edge:
    """Envoy and its agent; a context manager that stops both."""

    def __init__(
        self,
        mesh_settings: Mapping[str, str],
        *,
        directory: Path,
        operators: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            mesh_settings: addresses of gateway and inventory, at least SECKILL_GATEWAY_TARGET.
            operators: ports of metrics by process, for an edge with an operators' listener.
            settings: SECKILL_ variables that differ from the local stack's.
        """
        envoy = find_envoy()
        assert envoy is not None
        self.directory = directory
        self.ports: EdgePorts = claim_edge_ports(FREE_PORTS)
        inherited = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
        self.settings = {
            **mesh_settings,
            **edge_environment(ports=self.ports, directory=directory),
            **edge_json(mesh_settings),
            **self._for_operators(operators),
            "SECKILL_EDGE_LEASE_S": "0.5",
            # Tests leave calls open.
            "SECKILL_DRAIN_TIMEOUT_S": "0.5",
            **(settings or {}),
        }
        environment = {**inherited, **self.settings}
        specs = edge_specs(envoy, environment, ports=self.ports, directory=directory)
        self._specs: dict[str, ProcessSpec] = {spec.name: spec for spec in specs}
        # campaigns/proof.py plants a bug here.
        agent = self._specs[AGENT]
        self._specs[AGENT] = replace(agent, command=command_with(agent.command, chosen()))
        self._processes: dict[str, Process] = {}

    def _for_operators(self, metrics: Mapping[str, int] | None) -> dict[str, str]:
        if metrics is None:
            return {}
        return operator_environment(
            listen_port=self.ports.operator,
            public_port=self.ports.public,
            web=str(self.directory / FOLDER),
            metrics={**metrics, AGENT: self.ports.agent_metrics},
        )

    def __enter__(self) -> Self:
        try:
            for name in self._specs:
                self.start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start one of the two, and wait until it is ready."""
        self._processes[name] = Process(self._specs[name])
        drive([self._processes[name].wait_ready()])

    def stop(self) -> None:
        """Stop what runs, last first."""
        while self._processes:
            self._processes.popitem()[1].stop()

    def kill(self, name: str) -> None:
        """End one of the two with SIGKILL."""
        self._processes[name].kill()

    def kill_softly(self, name: str) -> None:
        """End one of the two with SIGTERM."""
        self._processes[name].stop()

    def freeze_agent(self) -> None:
        """Freeze the agent, its connections open."""
        self._processes[AGENT].send(signal.SIGSTOP)

    def thaw_agent(self) -> None:
        self._processes[AGENT].send(signal.SIGCONT)

    @property
    def address(self) -> str:
        """host:port for the public."""
        return f"{LOOPBACK}:{self.ports.public}"

    @property
    def certificates(self) -> DevCertificates:
        return load_or_create_certificates(self.directory / "tls")

    def log(self, name: str) -> str:
        return self._specs[name].log_path.read_text()

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        """A new connection, with TLS if there are credentials."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(
            f"localhost:{self.ports.public}", credentials, options=options
        )

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """One HTTP/1.1 call on a connection of its own; `body`: bytes, or what becomes JSON."""
        return await call(self.ports.public, method, path, body, headers=headers, tls=tls)

    def metrics(self) -> str:
        """Return Envoy's metrics."""
        url = f"http://{LOOPBACK}:{self.ports.stats}/metrics"
        with urllib.request.urlopen(url, timeout=CALL_S) as answer:
            return str(answer.read().decode())

    def passed_on(self) -> int:
        """Count the calls that Envoy has sent to the gateway, without its health checks."""
        # Health checks have a connection pool of their own and are no requests of the cluster.
        name = 'envoy_cluster_upstream_rq_total{envoy_cluster_name="gateway"} '
        for line in self.metrics().splitlines():
            if line.startswith(name):
                return int(line.removeprefix(name))
        return 0


__all__ = ["AGENT", "ENVOY", "Answer", "Edge"]
