"""Who is at the other end of a connection, and how the server behind is told."""

from asyncio import BaseTransport

# The front names the peer of a call that it passes on, to the server behind, in this metadata.
PEER_METADATA = "seckill-peer"
# The same for the header `user-agent`, where the client library between would write its own.
USER_AGENT_METADATA = "seckill-user-agent"


def name_of_peer(transport: BaseTransport) -> str:
    """gRPC's name of the peer of a connection; empty if it has left already."""
    address = transport.get_extra_info("peername")
    if address is None:
        return ""
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
