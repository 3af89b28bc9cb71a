"""The replicas of a service: each is asked, as each has clocks and settings of its own."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from seckill_cli import mesh
from seckill_cli.errors import CommandFailed

SERVICES = ("gateway", "inventory", "order", "rollback")
# Replicas of one service that are asked.
REPLICAS_MAX = 64
_SCHEMES = ("dns:///", "ipv4:", "ipv6:")


@dataclass(frozen=True)
class Replica:
    """One address of a service.

    Attributes:
        service: its name.
        address: host:port, of one machine.
        host: whom its certificate names.
    """

    service: str
    address: str
    host: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.service} {self.address}"

    def channel(self) -> grpc.aio.Channel:
        """Return a channel to it; the caller closes it."""
        credentials = mesh.security_of(self.address).credentials
        if credentials is None:
            return grpc.aio.insecure_channel(self.address)
        # The address is one of the name's; the certificate has the name.
        options = [("grpc.ssl_target_name_override", self.host)]
        return grpc.aio.secure_channel(self.address, credentials, options=options)


def replicas_of(service: str, target: str) -> list[Replica]:
    """Return each address that a gRPC target leads to; raises CommandFailed if it has none."""
    rest = target
    for scheme in _SCHEMES:
        rest = rest.removeprefix(scheme)
    found = list(dict.fromkeys(_resolve(service, rest)))
    return found[:REPLICAS_MAX]


def _resolve(service: str, targets: str) -> Iterator[Replica]:
    for one in targets.split(","):
        host, _, port = one.rpartition(":")
        name = host.strip("[]")
        certified = mesh.security_of(one).name_of(service) or name
        try:
            found = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            option = f"--{service}, {mesh.variable_of(service)}"
            raise CommandFailed(
                f"the {service} service is not at {one} ({option}): {error}"
            ) from error
        for family, _, _, _, place in found:
            host_there = str(place[0])
            at = f"[{host_there}]" if family == socket.AF_INET6 else host_there
            yield Replica(service, f"{at}:{int(place[1])}", certified)
