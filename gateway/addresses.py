"""Which address a call is charged to."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from seckill.runtime.recent import Recent

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What one customer of a provider gets: a smaller prefix would hand every customer endless buckets.
IPV6_BUCKET_PREFIX = 64
IPV6_BUCKET_HOST_BITS = ipaddress.IPV6LENGTH - IPV6_BUCKET_PREFIX
# Addresses of IPv4 are numbered behind all of IPv6, so that no network of the one holds the other.
IPV4_FIRST = 1 << 128
# The longest text of an address, RFC 4291 with an IPv4 tail; what is longer is none.
ADDRESS_CHARS_MAX = 45


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of a comma-separated list of CIDRs; raises ValueError naming the wrong one."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def address_of_peer(peer: str) -> Address | None:
    """The address in gRPC's name of a peer, or None if it has none (a Unix socket).

    "ipv4:192.0.2.1:50051", "ipv6:[2001:db8::1]:50051", the brackets sometimes percent-encoded.
    """
    scheme, _, rest = peer.partition(":")
    if scheme not in {"ipv4", "ipv6"}:
        return None
    return parse_address(unquote(rest).rpartition(":")[0].strip("[]"))


def parse_address(text: str) -> Address | None:
    """The address that a text is, or None; an IPv4 address within IPv6 is that."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def number_of(address: Address) -> int:
    """Return the number of an address; one of IPv6 that maps an IPv4 one has the latter's."""
    if isinstance(address, ipaddress.IPv4Address):
        return IPV4_FIRST + int(address)
    mapped = address.ipv4_mapped
    return int(address) if mapped is None else IPV4_FIRST + int(mapped)


def bucket_key(address: Address) -> str:
    """The name of the address' bucket: IPv4 by itself, IPv6 by its /64."""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    first = int(address) >> IPV6_BUCKET_HOST_BITS << IPV6_BUCKET_HOST_BITS
    return f"{ipaddress.IPv6Address(first)}/{IPV6_BUCKET_PREFIX}"


class _Hop(NamedTuple):
    """An address that stood at one end of a connection.

    Attributes:
        key: of its bucket.
        number: `number_of` the address; -1 if it has none.
        trusted: it is a proxy's, whose word about the address before it counts.
        exempt: as a peer it has no bucket.
    """

    key: str
    number: int
    trusted: bool
    exempt: bool


_NO_ADDRESS = _Hop("", -1, trusted=False, exempt=True)


class ClientAddresses:
    """From a call's peer and x-forwarded-for to the key of its bucket."""

    def __init__(
        self,
        *,
        trusted: Sequence[Network],
        exempt: Sequence[Network],
        hops_max: int,
        remembered_max: int,
    ) -> None:
        """
        Args:
            trusted: proxies that may name the client.
            exempt: peers without a bucket.
            hops_max: proxies in a row before the gateway.
            remembered_max: addresses kept, so that they need not be parsed again.
        """
        self._trusted = trusted
        self._exempt = exempt
        self._hops_max = hops_max
        # Peers by gRPC's name, and forwarded addresses by their text: never by a whole header.
        self._peers: Recent[str, _Hop] = Recent(remembered_max)
        self._forwarded: Recent[str, _Hop] = Recent(remembered_max)

    def is_trusted_proxy(self, peer: str) -> bool:
        """Whether the peer is a trusted proxy, so that its x-forwarded-for counts."""
        return bool(self._trusted) and self._peer(peer).trusted

    def key(self, peer: str, forwarded_for: str | None) -> str:
        """The bucket's key, "" where the caller is exempt.

        Args:
            peer: gRPC's name of the peer.
            forwarded_for: x-forwarded-for, only if the peer `is_trusted_proxy`.
        """
        if forwarded_for is None:
            client = self._peer(peer)
            return "" if client.exempt else client.key
        return self._client(peer, forwarded_for).key

    def number(self, peer: str, forwarded_for: str | None) -> int:
        """The `number_of` the caller's address, exempt or not; the arguments are those of `key`."""
        return self._client(peer, forwarded_for).number

    def _client(self, peer: str, forwarded_for: str | None) -> _Hop:
        """Return the caller.

        Each proxy appends the address it saw, so only what stands to the right of the first
        untrusted address can be trusted: read from the right, and stop at the first address that
        is not a trusted proxy's, or after as many hops as there are proxies.
        """
        client = self._peer(peer)
        if forwarded_for is None:
            return client
        left = forwarded_for
        for _ in range(self._hops_max):
            left, _, text = left.rpartition(",")
            hop = self._hop(text.strip()) if client.trusted else None
            if hop is None:
                break
            client = hop
        return client

    def _peer(self, peer: str) -> _Hop:
        hop = self._peers.get(peer)
        if hop is None:
            address = address_of_peer(peer)
            hop = _NO_ADDRESS if address is None else self._of(address)
            self._peers.put(peer, hop)
        return hop

    def _hop(self, text: str) -> _Hop | None:
        if len(text) > ADDRESS_CHARS_MAX:
            return None
        hop = self._forwarded.get(text)
        if hop is None:
            address = parse_address(text)
            if address is not None:
                hop = self._of(address)
                self._forwarded.put(text, hop)
        return hop

    def _of(self, address: Address) -> _Hop:
        return _Hop(
            bucket_key(address),
            number_of(address),
            trusted=_within(address, self._trusted),
            exempt=_within(address, self._exempt),
        )
