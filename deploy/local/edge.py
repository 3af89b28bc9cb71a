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
from pathlib import Path

from deploy.edge.render import render
from deploy.edge.settings import EdgeSettings
from deploy.local.certificates import load_or_create
from deploy.local.mesh import REPOSITORY_ROOT, RESTARTS_MAX, claim_port, mesh
from deploy.local.ports import LOOPBACK
from deploy.local.process import ProcessSpec
from deploy.local.server import plain_environment
from deploy.local.settings import LocalSettings, Stores

ENVOY = "edge"
AGENT = "edge-agent"
READY_TIMEOUT_S = 0.5
HEALTHY_GATEWAY = re.compile(
    r'^envoy_cluster_membership_healthy\{[^}]*="gateway"[^}]*\} [1-9]', re.MULTILINE
)
# Envoy's threads; one core each is as much as they can use.
WORKERS = min(2, os.cpu_count() or 1)
WEB = REPOSITORY_ROOT / "web"
# A socket's path may have 103 characters on some systems; its name in the folder takes some.
FOLDER_CHARACTERS_MAX = 85


@dataclass(frozen=True, kw_only=True)
class EdgePorts:
    """Ports of the edge: for the public, for Envoy's metrics, for the agent's."""

    public: int
    stats: int
    agent_metrics: int


def find_envoy() -> Path | None:
    """Envoy's program, or None where there is none for this machine."""
    found = importlib.util.find_spec("envoy")
    for folder in found.submodule_search_locations or () if found else ():
        program = Path(folder) / "_bin" / "envoy"
        if program.exists():
            return program
    return None


def claim_edge_ports(env: Mapping[str, str] = os.environ) -> EdgePorts:
    """Settle the edge's ports.

    Raises:
        StackError: a port is taken, or a variable is not a port.
    """
    claim = claim_port
    return EdgePorts(
        public=claim("SECKILL_LOCAL_EDGE_PORT", 8080, env=env, wanted_by="edge"),
        stats=claim("SECKILL_LOCAL_EDGE_STATS_PORT", 9106, env=env, wanted_by="edge's metrics"),
        agent_metrics=claim(
            "SECKILL_LOCAL_EDGE_METRICS_PORT", 9105, env=env, wanted_by="edge-agent's metrics"
        ),
    )


def edge_environment(*, ports: EdgePorts, directory: Path) -> dict[str, str]:
    """What the edge needs besides the mesh's own settings; makes certificates where none are."""
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
        "SECKILL_EDGE_WEB_DIRECTORY": str(WEB) if WEB.is_dir() else "",
    }


def _edge_folder(directory: Path) -> Path:
    """Where configuration and sockets are: in `directory`, unless its name is too long for them."""
    folder = directory / "edge"
    if len(str(folder)) > FOLDER_CHARACTERS_MAX:
        tag = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"seckill-edge-{os.getuid()}-{tag}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def edge_specs(
    envoy: Path, env: Mapping[str, str], *, ports: EdgePorts, directory: Path
) -> list[ProcessSpec]:
    """Write Envoy's configuration, and say what to run.

    Args:
        env: the mesh's and the edge's settings.
        directory: for logs.
    """
    configuration = render(_settings(env))
    command = [str(envoy), "-c", str(configuration), "--concurrency", str(WORKERS)]
    # Without hot restarts there is nothing that two Envoys on one machine could share.
    command += ["--disable-hot-restart", "--log-level", "warning"]
    return [
        ProcessSpec(
            name=ENVOY,
            command=command,
            log_path=directory / f"{ENVOY}.log",
            env=plain_environment(),
            ready=lambda: edge_is_ready(ports.stats),
            address=f"{LOOPBACK}:{ports.public}",
            restarts_max=RESTARTS_MAX,
        ),
        ProcessSpec(
            name=AGENT,
            command=[sys.executable, "-m", "deploy.edge"],
            log_path=directory / f"{AGENT}.log",
            env={**env, "PYTHONPATH": str(REPOSITORY_ROOT)},
            cwd=REPOSITORY_ROOT,
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
    return EdgeSettings(**given)  # type: ignore[arg-type]


def edge_is_ready(stats_port: int) -> bool:
    """Whether Envoy listens, has its routes, and has found a gateway that is ready."""
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


def public_mesh(stores: Stores) -> Sequence[ProcessSpec]:
    """The mesh, and the edge where there is an Envoy: for `Supervisor`.

    Raises:
        StackError: a port is taken, or a topic is refused.
    """
    directory = LocalSettings.from_env().directory.absolute()
    envoy = find_envoy()
    ports = claim_edge_ports() if envoy else None
    if envoy is None or ports is None:
        return mesh(stores)
    stages = mesh(stores, edge_environment(ports=ports, directory=directory))
    return [*stages, *edge_specs(envoy, stages[0].env, ports=ports, directory=directory)]
