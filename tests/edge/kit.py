"""A real Envoy with its agent, in front of whatever a test has, and plain HTTP to call it."""

import asyncio
import http.client
import json
import os
import signal
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from deploy.local import Process, ProcessSpec
from deploy.local.certificates import DevCertificates
from deploy.local.certificates import load_or_create as load_or_create_certificates
from deploy.local.deadline import drive
from deploy.local.edge import (
    AGENT,
    ENVOY,
    EdgePorts,
    claim_edge_ports,
    edge_environment,
    edge_specs,
    find_envoy,
)
from deploy.local.ports import LOOPBACK

FREE_PORTS = {f"SECKILL_LOCAL_EDGE_{kind}": "0" for kind in ("PORT", "STATS_PORT", "METRICS_PORT")}
CALL_S = 20.0
SERVICE = "seckill.v1.GatewayService"


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason in the ErrorInfo of an error."""
        return str(self.json["details"][0]["reason"])


class Edge:
    """Envoy and its agent; a context manager that stops both."""

    def __init__(
        self,
        mesh_settings: Mapping[str, str],
        *,
        directory: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            mesh_settings: where gateway and inventory are, at least SECKILL_GATEWAY_TARGET.
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
            "SECKILL_EDGE_LEASE_S": "0.5",
            **(settings or {}),
        }
        environment = {**inherited, **self.settings}
        specs = edge_specs(envoy, environment, ports=self.ports, directory=directory)
        self._specs: dict[str, ProcessSpec] = {spec.name: spec for spec in specs}
        self._processes: dict[str, Process] = {}

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
        """The agent stands still, its connections open."""
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
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return await asyncio.to_thread(self._call, method, path, content, headers or {}, tls)

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None,
    ) -> Answer:
        connection: http.client.HTTPConnection
        if tls is None:
            connection = http.client.HTTPConnection(LOOPBACK, self.ports.public, timeout=CALL_S)
        else:
            connection = http.client.HTTPSConnection(
                "localhost", self.ports.public, timeout=CALL_S, context=tls
            )
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def metrics(self) -> str:
        """What Envoy tells Prometheus."""
        url = f"http://{LOOPBACK}:{self.ports.stats}/metrics"
        with urllib.request.urlopen(url, timeout=CALL_S) as answer:
            return str(answer.read().decode())

    def passed_on(self) -> int:
        """Calls that Envoy has sent to the gateway, its health checks left out."""
        # Health checks have a connection pool of their own and are no requests of the cluster.
        name = 'envoy_cluster_upstream_rq_total{envoy_cluster_name="gateway"} '
        for line in self.metrics().splitlines():
            if line.startswith(name):
                return int(line.removeprefix(name))
        return 0


__all__ = ["AGENT", "ENVOY", "Answer", "Edge"]
