"""Where the replicas of a service are: gRPC's names of servers, and their addresses."""

import asyncio
import socket
from dataclasses import dataclass

# Replicas that one channel is connected to; of more addresses the first ones count.
ADDRESSES_MAX = 256


@dataclass(frozen=True, slots=True)
class Address:
    """Of one replica: host and port, or the path of a Unix socket in place of both."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A name that stands for addresses, or the addresses themselves.

    Attributes:
        authority: what calls name as their server, e.g. "inventory:50052".
        name: host and port to resolve; None if the addresses are fixed.
        fixed: the addresses that were named.
    """

    authority: str
    name: tuple[str, int] | None
    fixed: tuple[Address, ...] = ()

    async def resolve(self) -> tuple[Address, ...]:
        """Return the addresses as they are now, at least one. Raises OSError if there is none."""
        if self.name is None:
            return self.fixed
        found = await asyncio.get_running_loop().getaddrinfo(*self.name, type=socket.SOCK_STREAM)
        # One host may be named several times.
        addresses = dict.fromkeys(Address(str(at[0]), int(at[1])) for *_, at in found)
        if not addresses:
            raise OSError(f"{self.name[0]} has no address")
        return tuple(addresses)[:ADDRESSES_MAX]


def parse_target(target: str) -> Target:
    """Return what gRPC's name of a server means.

    Raises:
        ValueError: only gRPC can resolve it: it names a DNS server or xDS.
    """
    if target.startswith("unix:"):
        path = target.removeprefix("unix:").removeprefix("//")
        return Target("localhost", None, (Address(path=path),))
    for scheme in ("ipv4:", "ipv6:"):
        if target.startswith(scheme):
            parts = target.removeprefix(scheme).split(",")
            fixed = tuple(Address(*_host_and_port(part)) for part in parts)
            return Target(parts[0], None, fixed[:ADDRESSES_MAX])
    name = target
    if target.startswith("dns:"):
        name = target.removeprefix("dns:")
        if name.startswith("//"):
            server, _, name = name.removeprefix("//").partition("/")
            if server:
                raise ValueError(f"names a DNS server, {server}, which only gRPC can ask")
    elif target.startswith("xds:"):
        raise ValueError("is of xDS, which only gRPC can ask")
    return Target(name, _host_and_port(name))


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)
