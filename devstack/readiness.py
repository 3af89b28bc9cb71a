"""Ask everything that runs in a stack whether it is ready."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from devstack import edge
from devstack.certificates import MeshCertificates, load_or_create_mesh
from devstack.grpc_probe import GrpcReady
from devstack.kafka_probe import count_brokers
from devstack.mesh import SERVICES
from devstack.postgres import postgres_answers
from devstack.settings import Stores
from devstack.state import RunningProcess, StackState
from devstack.valkey import redis_answers

# What `StackState.components` calls the stores.
_COMPONENTS = {"postgres": "postgres", "valkey": "redis", "kafka": "kafka"}
_SERVICES = {service.name: service.service for service in SERVICES}


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What one store or process answered.

    Attributes:
        name: e.g. "kafka", "gateway", "edge".
        address: where it was asked, without credentials.
        ready: whether it did what it is there for: a store answered a query, a service said that
            it serves, the edge passed a call through.
        version: of a store, e.g. "Valkey 9.1.2"; of others empty.
        pid, log: its process and its log; None and empty for a store given from outside.
    """

    name: str
    address: str
    ready: bool
    version: str = ""
    pid: int | None = None
    log: str = ""


def check_readiness(state: StackState) -> tuple[Readiness, ...]:
    """Ask every store, every service and the edge, all at the same time.

    A frozen process, whose port still takes connections, is not ready. The answers take as long as
    the slowest probe may, about three seconds.

    Returns:
        In the order of starting.
    """
    asked = [*_given_stores(state), *state.processes]
    mesh = load_or_create_mesh(Path(state.certificates)) if state.certificates else None
    probes = [_probe_of(process, state.stores, mesh) for process in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda probe: probe(), probes))
    return tuple(
        Readiness(
            name=process.name,
            address=process.address,
            ready=ready,
            version=state.components.get(_COMPONENTS.get(process.name, ""), ""),
            pid=process.pid or None,
            log=process.log,
        )
        for process, ready in zip(asked, answers, strict=True)
    )


def _given_stores(state: StackState) -> list[RunningProcess]:
    """The stores that are no children of the supervisor."""
    stores = state.stores
    addresses = {
        "postgres": _host_and_port(stores.postgres_dsn),
        "valkey": _host_and_port(stores.redis_url),
        "kafka": stores.kafka_bootstrap,
    }
    started = {process.name for process in state.processes}
    return [
        RunningProcess(name=name, pid=0, address=address, log="")
        for name, address in addresses.items()
        if name not in started
    ]


def _host_and_port(address: str) -> str:
    """The part of an address that holds no password."""
    return urlsplit(address).netloc.rpartition("@")[2]


def _probe_of(
    process: RunningProcess, stores: Stores, mesh: MeshCertificates | None
) -> Callable[[], bool]:
    match process.name:
        case "postgres":
            return lambda: postgres_answers(stores.postgres_dsn)
        case "valkey":
            return lambda: redis_answers(stores.redis_url)
        case "kafka":
            return lambda: count_brokers(stores.kafka_bootstrap) > 0
        case edge.ENVOY:
            return lambda: edge.edge_answers(process.address)
    return GrpcReady(process.address, _SERVICES.get(process.name, ""), mesh=mesh)
