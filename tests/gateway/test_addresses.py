"""Which address a call is charged to, whatever the caller claims."""

import pytest

from gateway.addresses import ClientAddresses, address_of_peer, parse_networks

ADDRESSES = ClientAddresses(
    trusted=parse_networks("10.0.0.0/8, 127.0.0.1/32"),
    exempt=parse_networks("127.0.0.0/8,::1/128,10.9.0.0/16"),
    hops_max=2,
    remembered_max=100,
)


def charged(peer: str, forwarded_for: str | None = None) -> str:
    """The bucket's key, with x-forwarded-for read as the gateway reads it."""
    trusted = forwarded_for if ADDRESSES.is_trusted_proxy(peer) else None
    return ADDRESSES.key(peer, trusted)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "key"),
    [
        ("ipv4:192.0.2.1:5000", None, "192.0.2.1"),
        ("ipv6:[2001:db8:1:2:3::4]:5000", None, "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::9%5D:5000", None, "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.1]:5000", None, "192.0.2.1"),
        ("ipv4:127.0.0.1:5000", None, ""),
        ("unix:", None, ""),
        # What an untrusted peer claims does not count.
        ("ipv4:192.0.2.1:5000", "198.51.100.7", "192.0.2.1"),
        # A trusted one appends what it saw; claims stand to the left of that.
        ("ipv4:10.1.1.1:5000", "198.51.100.7", "198.51.100.7"),
        ("ipv4:10.1.1.1:5000", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        ("ipv4:10.1.1.1:5000", "1.2.3.4, 198.51.100.7, 10.2.2.2", "198.51.100.7"),
        # Two proxies in a row are configured: a third address is a claim, whatever it looks like.
        ("ipv4:10.1.1.1:5000", "1.2.3.4, 10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("ipv4:10.1.1.1:5000", "nonsense", "10.1.1.1"),
        ("ipv4:10.1.1.1:5000", "198.51.100.7 " + "x" * 15_000, "10.1.1.1"),
        ("ipv4:10.1.1.1:5000", "1.2.3.4,nonsense,10.2.2.2", "10.2.2.2"),
        # What an exempt proxy forwards is not exempt.
        ("ipv4:127.0.0.1:5000", "198.51.100.7", "198.51.100.7"),
        ("ipv4:127.0.0.1:5000", "127.0.0.5", "127.0.0.5"),
    ],
)
def test_the_charged_address(peer: str, forwarded_for: str | None, key: str) -> None:
    """Peer, proxies counted from the right, IPv6 by its /64, exempt peers without a bucket."""
    assert charged(peer, forwarded_for) == key


@pytest.mark.parametrize("peer", ["", "unix:/tmp/x", "ipv4:", "ipv4:nonsense:1", "vsock:1:2"])
def test_a_peer_without_address_has_none(peer: str) -> None:
    """Nothing that gRPC may call a peer breaks the gateway."""
    assert address_of_peer(peer) is None


def test_one_customer_has_one_bucket_however_their_address_is_written() -> None:
    """IPv6 by its /64; a mapped IPv4 address is the IPv4 address, as peer and forwarded."""
    addresses = ClientAddresses(
        trusted=parse_networks("10.0.0.0/8"), exempt=(), hops_max=1, remembered_max=100
    )
    mapped, plain = "ipv6:[::ffff:192.0.2.7]:1", "ipv4:192.0.2.7:2"
    assert addresses.key(mapped, None) == addresses.key(plain, None) == "192.0.2.7"
    assert addresses.number(mapped, None) == addresses.number(plain, None)
    proxy = "ipv6:[::ffff:10.0.0.1]:1"
    assert addresses.key(proxy, "::ffff:192.0.2.7") == "192.0.2.7"
    one, other = "2001:db8:0:1::1", "2001:db8:0:1:ffff::2"
    assert addresses.key(proxy, one) == addresses.key(proxy, other) == "2001:db8:0:1::/64"
    assert addresses.number(proxy, one) != addresses.number(proxy, other)
