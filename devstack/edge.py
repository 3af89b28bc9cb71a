"""The edge beside the local mesh: Envoy from its wheel, and the agent."""

import hashlib
import importlib.util
import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from pydantic import ValidationError

from devstack.certificates import load_or_create
from devstack.console import metrics_ports, operator_environment
from devstack.errors import StackError
from devstack.grpc_probe import GrpcReady
from devstack.mesh import (
    REPOSITORY_ROOT,
    RESTARTS_MAX,
    mesh,
    mesh_certificates,
    mesh_ports,
    mesh_specs,
    without_stores,
)
from devstack.pages import FOLDER, prepare_pages
from devstack.ports import LOOPBACK, settle_ports
from devstack.process import ProcessSpec
from devstack.server import plain_environment
from devstack.settings import Stores, WantedPort, read_directory, read_secure
from devstack.supervisor import Services
from edge.bootstrap import AGENT_SOCKET
from edge.render import render
from edge.settings import EdgeSettings
from seckill.runtime.callers import EDGE as EDGE_STAGE
from seckill.v1 import gateway_pb2, gateway_pb2_grpc

ENVOY = "edge"
AGENT = "edge-agent"
PUBLIC_PORT = "SECKILL_LOCAL_EDGE_PORT"
STATS_PORT = "SECKILL_LOCAL_EDGE_STATS_PORT"
AGENT_METRICS_PORT = "SECKILL_LOCAL_EDGE_METRICS_PORT"
OPERATOR_PORT = "SECKILL_LOCAL_EDGE_OPERATOR_PORT"
READY_TIMEOUT_S = 0.5
CALL_TIMEOUT_S = 1.0
HEALTHY_GATEWAY = re.compile(
    r'^envoy_cluster_membership_healthy\{[^}]*="gateway"[^}]*\} [1-9]', re.MULTILINE
)
# Envoy's threads; one core each is as much as they can use.
WORKERS = min(2, os.cpu_count() or 1)
# The console shows what was done a moment ago.
LOGS_AT_ONCE = ("--file-flush-interval-msec", "200")
# What the agent takes to stop, beside Envoy's calls.
AGENT_STOP_S = 10.0
# A socket's path may have 103 characters on some systems; its name in the folder takes some.
FOLDER_CHARACTERS_MAX = 85


@dataclass(frozen=True, kw_only=True)
class EdgePorts:
    """Ports of the edge: for the public, for Envoy's metrics, for the agent's, for operators."""

    public: int
    stats: int
    agent_metrics: int
    operator: int


def find_envoy() -> Path | None:
    """Return the path of Envoy's program, or None if there is none for this machine."""
    found = importlib.util.find_spec("envoy")
    for folder in found.submodule_search_locations or () if found else ():
        program = Path(folder) / "_bin" / "envoy"
        if program.exists():
            return program
    return None


def edge_ports() -> tuple[WantedPort, ...]:
    """Return the ports that Envoy and the agent listen on."""
    return (
        WantedPort(variable=PUBLIC_PORT, default=8080, wanted_by=ENVOY),
        WantedPort(variable=STATS_PORT, default=9106, wanted_by=f"{ENVOY}'s metrics"),
        WantedPort(variable=AGENT_METRICS_PORT, default=9105, wanted_by=f"{AGENT}'s metrics"),
        WantedPort(variable=OPERATOR_PORT, default=8081, wanted_by="the operators' console"),
    )


def claim_edge_ports(env: Mapping[str, str] = os.environ) -> EdgePorts:
    """Settle the edge's ports, as `settle_ports`."""
    return _named(settle_ports(edge_ports(), env).by_variable)


def _named(ports: Mapping[str, int]) -> EdgePorts:
    return EdgePorts(
        public=ports[PUBLIC_PORT],
        stats=ports[STATS_PORT],
        agent_metrics=ports[AGENT_METRICS_PORT],
        operator=ports[OPERATOR_PORT],
    )


def edge_environment(*, ports: EdgePorts, directory: Path) -> dict[str, str]:
    """Return the edge's settings, beside the mesh's own; create certificates if there are none."""
    certificates = load_or_create(directory / "tls")
    return {
        "SECKILL_EDGE_LISTEN": f"{LOOPBACK}:{ports.public}",
        "SECKILL_EDGE_STATS_LISTEN": f"{LOOPBACK}:{ports.stats}",
        "SECKILL_EDGE_METRICS_LISTEN": f"{LOOPBACK}:{ports.agent_metrics}",
        "SECKILL_EDGE_DIRECTORY": str(_edge_folder(directory)),
        # Both on the one port, so that curl needs no option and a browser can try either.
        "SECKILL_EDGE_TLS": "optional",
        "SECKILL_EDGE_TLS_CERTIFICATE": str(certificates.server),
        "SECKILL_EDGE_TLS_KEY": str(certificates.server_key),
        "SECKILL_EDGE_CLIENT_CERTIFICATES": "optional",
        "SECKILL_EDGE_CLIENT_CA": str(certificates.authority),
        "SECKILL_EDGE_CORS_ORIGINS": "*",
        # All callers have one address here; the gateway leaves it out of its buckets too.
        "SECKILL_EDGE_RATE_IP": "0",
        "SECKILL_EDGE_WEB_DIRECTORY": str(directory / FOLDER),
    }


def edge_json(env: Mapping[str, str]) -> dict[str, str]:
    """Return the setting with which Envoy transcodes if the gateway chosen in `env` has no JSON."""
    speaks = (
        env.get("SECKILL_GATEWAY_FRONT", "http2") == "http2"
        and env.get("SECKILL_GATEWAY_JSON", "on") == "on"
    )
    return {} if speaks else {"SECKILL_EDGE_JSON": "transcoded"}


def _edge_folder(directory: Path) -> Path:
    """The folder of configuration and sockets, in `directory` unless that path is too long."""
    folder = directory / "edge"
    if len(str(folder)) > FOLDER_CHARACTERS_MAX:
        tag = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"seckill-edge-{os.getuid()}-{tag}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def edge_specs(
    envoy: Path, env: Mapping[str, str], *, ports: EdgePorts, directory: Path
) -> list[ProcessSpec]:
    """Write the pages and Envoy's configuration, and return what to run.

    Args:
        env: the mesh's and the edge's settings.
        directory: for logs.
    """
    settings = _settings(env)
    if settings.edge_web_directory == str(directory / FOLDER):
        prepare_pages(env, directory / FOLDER)
    configuration = render(settings)
    agent_address = f"unix:{settings.edge_directory / AGENT_SOCKET}"
    command = [str(envoy), "-c", str(configuration), "--concurrency", str(WORKERS)]
    # Without hot restarts there is nothing that two Envoys on one machine could share.
    command += ["--disable-hot-restart", "--log-level", "warning", *LOGS_AT_ONCE]
    return [
        ProcessSpec(
            name=ENVOY,
            command=command,
            log_path=directory / f"{ENVOY}.log",
            env=plain_environment(),
            ready=lambda: edge_is_ready(ports.stats),
            address=f"{LOOPBACK}:{ports.public}",
            operators=settings.edge_operator_listen,
            restarts_max=RESTARTS_MAX,
        ),
        ProcessSpec(
            name=AGENT,
            command=[sys.executable, "-m", "edge"],
            log_path=directory / f"{AGENT}.log",
            env={**env, "PYTHONPATH": str(REPOSITORY_ROOT)},
            cwd=REPOSITORY_ROOT,
            ready=GrpcReady(agent_address),
            address=agent_address,
            # It is stopped before Envoy, and waits for Envoy's calls.
            stop_timeout_s=settings.drain_timeout_s + AGENT_STOP_S,
            restarts_max=RESTARTS_MAX,
        ),
    ]


def _settings(env: Mapping[str, str]) -> EdgeSettings:
    prefix = str(EdgeSettings.model_config["env_prefix"])
    given = {
        name: env[f"{prefix}{name.upper()}"]
        for name in EdgeSettings.model_fields
        if f"{prefix}{name.upper()}" in env
    }
    try:
        return EdgeSettings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{prefix}{str(problem['loc'][0]).upper()}={problem['input']}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise StackError("\n".join(lines)) from error


def edge_is_ready(stats_port: int) -> bool:
    """Tell whether Envoy listens, has its routes, and has found a gateway that is ready."""
    url = f"http://{LOOPBACK}:{stats_port}"
    try:
        _read(f"{url}/ready")
        metrics = _read(f"{url}/metrics")
    except OSError:
        return False
    return HEALTHY_GATEWAY.search(metrics) is not None


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=READY_TIMEOUT_S) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def edge_answers(address: str) -> bool:
    """Tell whether a call gets through Envoy to the gateway and back."""
    with grpc.insecure_channel(address) as channel:
        try:
            gateway_pb2_grpc.GatewayServiceStub(channel).ListSales(
                gateway_pb2.GatewayServiceListSalesRequest(page_size=1), timeout=CALL_TIMEOUT_S
            )
        except grpc.RpcError:
            return False
    return True


def public_mesh() -> Services:
    """Return the four services, and the edge if there is an Envoy, for `Supervisor`."""
    envoy = find_envoy()
    if envoy is None:
        return mesh()
    return Services(specs=partial(_public_specs, envoy), ports=(*mesh_ports(), *edge_ports()))


def _public_specs(envoy: Path, stores: Stores, ports: Mapping[str, int]) -> Sequence[ProcessSpec]:
    directory = read_directory().absolute()
    edge = _named(ports)
    further = {
        **edge_environment(ports=edge, directory=directory),
        **edge_json(os.environ),
        **operator_environment(
            listen_port=edge.operator,
            public_port=edge.public,
            web=str(directory / FOLDER),
            metrics={**metrics_ports(ports), AGENT: edge.agent_metrics},
        ),
    }
    services = mesh_specs(stores, ports, further)
    env = dict(services[0].env)
    if read_secure():
        env = without_stores(env) | mesh_certificates(directory).settings_of(EDGE_STAGE)
    return [*services, *edge_specs(envoy, env, ports=edge, directory=directory)]
