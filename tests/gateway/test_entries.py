"""The operators' lists as the gateway asks them."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Network, number_of
from gateway.entries import ALLOWED, DENIED, Entries, Entry
from seckill.v1 import gate_pb2 as pb

USER, NETWORK, AGENT = (
    pb.GATE_ENTRY_KIND_USER,
    pb.GATE_ENTRY_KIND_NETWORK,
    pb.GATE_ENTRY_KIND_USER_AGENT,
)


def entry(kind: "pb.GateEntryKind.ValueType", value: str, *, denies: bool = True) -> pb.GateEntry:
    """An entry."""
    which = pb.GATE_LIST_DENY if denies else pb.GATE_LIST_ALLOW
    return pb.GateEntry(list=which, kind=kind, value=value)


def built(*entries: pb.GateEntry) -> Entries:
    """These entries, ready to be asked."""
    return Entries.of(map(Entry.of, entries))


def of(entries: Entries, address: str) -> bool | None:
    """What they say of an address."""
    return entries.of_address(number_of(ipaddress.ip_address(address)))


def networks(version: int, bits: int) -> st.SearchStrategy[Network]:
    """Networks that are often nested: they differ in few of their bits."""
    pattern = st.integers(0, 15).map(lambda top: top << (bits - 12) | top)
    prefix = st.integers(8, bits)

    def make(number: int, length: int) -> Network:
        whole = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        return whole((number, length), strict=False)

    return st.builds(make, pattern, prefix)


@given(
    ruled=st.dictionaries(networks(4, 32) | networks(6, 128), st.booleans(), max_size=8),
    asked=st.lists(networks(4, 32) | networks(6, 128), min_size=1, max_size=4),
)
def test_the_smallest_network_decides(ruled: dict[Network, bool], asked: list[Network]) -> None:
    """Against the plain model: of all that hold an address, the one with the longest prefix."""
    entries = built(
        *(entry(NETWORK, str(network), denies=denies) for network, denies in ruled.items())
    )
    for network in [*asked, *ruled]:
        for address in (network.network_address, network.broadcast_address):
            around = [each for each in ruled if each.version == address.version and address in each]
            smallest = max(around, key=lambda each: each.prefixlen, default=None)
            expected = None if smallest is None else not ruled[smallest]
            assert entries.of_address(number_of(address)) is expected


def test_an_entry_for_ipv4_holds_for_the_same_address_mapped_into_ipv6() -> None:
    """Whatever the socket calls the caller."""
    entries = built(entry(NETWORK, "192.0.2.0/24"))
    assert of(entries, "192.0.2.9") is DENIED
    assert of(entries, "::ffff:192.0.2.9") is DENIED
    assert of(entries, "192.0.3.9") is None
    assert entries.of_address(-1) is None


def test_the_longest_part_of_a_user_agent_decides() -> None:
    """In upper and lower case; one that is missing, or has no such part, decides nothing."""
    entries = built(
        entry(AGENT, "python-requests"), entry(AGENT, "python-requests/shop", denies=False)
    )
    assert entries.of_user_agent("Python-Requests/2.31") is DENIED
    assert entries.of_user_agent("x python-requests/shop 1") is ALLOWED
    assert entries.of_user_agent("Mozilla/5.0") is None
    assert entries.of_user_agent(None) is None
    assert entries.of_user_agent("x" * 600 + "python-requests") is None


def test_users_are_looked_up_by_their_whole_id() -> None:
    """No prefixes, no cases."""
    entries = built(entry(USER, "mallory"), entry(USER, "vip", denies=False))
    assert entries.users == {"mallory": DENIED, "vip": ALLOWED}
    assert not entries.has_networks
