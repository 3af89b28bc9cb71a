"""Which address a call is charged to."""

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from gateway.recent import Recent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What one customer of a provider gets: a smaller prefix would hand everybody endless buckets.
IPV6_BUCKET_PREFIX = 64


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of a comma-separated list of CIDRs; raises ValueError naming the wrong one."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def address_of_peer(peer: str) -> Address | None:
    """The address in gRPC's name of a peer, or None where it has none (a Unix socket).

    "ipv4:192.0.2.1:50051", "ipv6:[2001:db8::1]:50051", the brackets sometimes percent-encoded.
    """
    scheme, _, rest = peer.partition(":")
    if scheme not in {"ipv4", "ipv6"}:
        return None
    return _parse(unquote(rest).rpartition(":")[0].strip("[]"))


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def client_address(peer: Address, forwarded_for: str, trusted: Sequence[Network]) -> Address:
    """The client behind trusted proxies.

    Each proxy appends the address it saw, so only what stands to the right of the first untrusted
    address can be believed: read from the right, skip trusted hops, stop at the first other one.
    """
    client = peer
    for hop in reversed(forwarded_for.split(",")):
        if not _within(client, trusted):
            break
        address = _parse(hop)
        if address is None:
            break
        client = address
    return client


def bucket_key(address: Address) -> str:
    """The name of the address' bucket: IPv4 by itself, IPv6 by its /64."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_BUCKET_PREFIX), strict=False))


class ClientAddresses:
    """From a call's peer and x-forwarded-for to the key of its bucket."""

    def __init__(
        self, *, trusted: Sequence[Network], exempt: Sequence[Network], remembered_max: int
    ) -> None:
        """`trusted`: proxies that may name the client; `exempt`: peers without a bucket."""
        self._trusted = trusted
        self._exempt = exempt
        # "" is an exempt peer; a peer keeps its name as long as its connection lasts.
        self._keys: Recent[str, str] = Recent(remembered_max)
        self._proxies: Recent[str, bool] = Recent(remembered_max)

    def speaks_for_others(self, peer: str) -> bool:
        """Whether the peer is a trusted proxy, so that its x-forwarded-for counts."""
        if not self._trusted:
            return False
        known = self._proxies.get(peer)
        if known is None:
            address = address_of_peer(peer)
            known = address is not None and _within(address, self._trusted)
            self._proxies.put(peer, known)
        return known

    def key(self, peer: str, forwarded_for: str | None) -> str:
        """The bucket's key, "" where the caller is exempt.

        Args:
            peer: gRPC's name of the peer.
            forwarded_for: x-forwarded-for, only if the peer `speaks_for_others`.
        """
        name = peer if forwarded_for is None else f"{peer} {forwarded_for}"
        key = self._keys.get(name)
        if key is None:
            key = self._find(peer, forwarded_for)
            self._keys.put(name, key)
        return key

    def _find(self, peer: str, forwarded_for: str | None) -> str:
        address = address_of_peer(peer)
        if address is None:
            return ""
        if forwarded_for is not None:
            return bucket_key(client_address(address, forwarded_for, self._trusted))
        return "" if _within(address, self._exempt) else bucket_key(address)
