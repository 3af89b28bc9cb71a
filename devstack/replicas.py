"""Further replicas of the four services in the local stack: `seckill up --replicas 2`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from devstack.errors import StackError
from devstack.grpc_probe import GrpcReady
from devstack.ports import LOOPBACK
from devstack.process import ProcessSpec
from devstack.settings import WantedPort

VARIABLE = "SECKILL_LOCAL_REPLICAS"
REPLICAS_MAX = 8


@dataclass(frozen=True)
class Replica:
    """One further replica of a service.

    Attributes:
        service: the service's name.
        number: 2 or higher; the first one has the service's own name and ports.
    """

    service: str
    number: int

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.service}-{self.number}"

    @property
    def port_variable(self) -> str:
        """The variable that chooses its port; without one it is a free one."""
        return f"SECKILL_LOCAL_{self.service.upper()}_{self.number}_PORT"

    @property
    def metrics_port_variable(self) -> str:
        """The variable that chooses where its metrics are; without one it is a free port."""
        return f"SECKILL_LOCAL_{self.service.upper()}_{self.number}_METRICS_PORT"


def further_replicas(
    services: Iterable[str], env: Mapping[str, str] = os.environ
) -> tuple[Replica, ...]:
    """Return the replicas that the environment asks for beside the first of each service.

    Raises:
        StackError: the variable is no number from 1 to REPLICAS_MAX.
    """
    wanted = env.get(VARIABLE, "") or "1"
    if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= REPLICAS_MAX):
        raise StackError(f"{VARIABLE}={wanted}: must be a number from 1 to {REPLICAS_MAX}")
    return tuple(
        Replica(service, number) for service in services for number in range(2, int(wanted) + 1)
    )


def replica_ports(replicas: Iterable[Replica]) -> tuple[WantedPort, ...]:
    """Return the ports that they listen on."""
    return tuple(
        chain.from_iterable(
            (
                WantedPort(variable=one.port_variable, default=0, wanted_by=one.name),
                WantedPort(
                    variable=one.metrics_port_variable,
                    default=0,
                    wanted_by=f"{one.name}'s metrics",
                ),
            )
            for one in replicas
        )
    )


def shared_targets(
    settings: Mapping[str, str], replicas: Sequence[Replica], ports: Mapping[str, int]
) -> dict[str, str]:
    """Return the settings with which all replicas of each service are found.

    Args:
        settings: with the first one's SECKILL_…_LISTEN.
        ports: by variable.
    """
    targets = {}
    for service in dict.fromkeys(one.service for one in replicas):
        addresses = [settings[f"SECKILL_{service.upper()}_LISTEN"]]
        addresses += [_address(one, ports) for one in replicas if one.service == service]
        targets[f"SECKILL_{service.upper()}_TARGET"] = f"ipv4:{','.join(addresses)}"
    return targets


def replica_specs(
    specs: Sequence[ProcessSpec], replicas: Sequence[Replica], ports: Mapping[str, int]
) -> list[ProcessSpec]:
    """Return what to run for the replicas, each like the first one of its service."""
    first = {spec.name: spec for spec in specs}
    return [_like(first[one.service], one, ports) for one in replicas]


def _like(spec: ProcessSpec, one: Replica, ports: Mapping[str, int]) -> ProcessSpec:
    prefix = f"SECKILL_{one.service.upper()}"
    address = _address(one, ports)
    return replace(
        spec,
        name=one.name,
        log_path=spec.log_path.with_name(f"{one.name}.log"),
        env={
            **spec.env,
            f"{prefix}_LISTEN": address,
            f"{prefix}_METRICS_LISTEN": f"{LOOPBACK}:{ports[one.metrics_port_variable]}",
        },
        ready=spec.ready.at(address) if isinstance(spec.ready, GrpcReady) else spec.ready,
        address=address,
    )


def _address(one: Replica, ports: Mapping[str, int]) -> str:
    return f"{LOOPBACK}:{ports[one.port_variable]}"
