"""The operators' listener of the local stack: the console, and what it needs of this machine."""

from collections.abc import Mapping

from devstack.mesh import SERVICES
from devstack.ports import LOOPBACK
from devstack.replicas import further_replicas


def operator_environment(
    *, listen_port: int, public_port: int, web: str, metrics: Mapping[str, int]
) -> dict[str, str]:
    """Return the settings of the listener; the order service's say who is an operator.

    Args:
        listen_port: of the listener.
        public_port: of the edge that rehearsals call.
        web: folder of the pages.
        metrics: ports of metrics by the process's name.
    """
    sources = (f"{name}={LOOPBACK}:{port}" for name, port in metrics.items())
    return {
        "SECKILL_EDGE_OPERATOR_LISTEN": f"{LOOPBACK}:{listen_port}",
        "SECKILL_EDGE_OPERATOR_WEB_DIRECTORY": web,
        "SECKILL_EDGE_OPERATOR_METRICS": ",".join(sources),
        "SECKILL_EDGE_OPERATOR_PUBLIC_ORIGIN": f"http://{LOOPBACK}:{public_port}",
    }


def metrics_ports(ports: Mapping[str, int]) -> dict[str, int]:
    """Return the ports of the services' metrics by process; `ports` are by variable."""
    replicas = further_replicas(service.name for service in SERVICES)
    first = {one.name: ports[one.metrics_port_variable] for one in SERVICES}
    return first | {one.name: ports[one.metrics_port_variable] for one in replicas}
