"""Names of servers, as gRPC writes them."""

import pytest

from seckill.runtime.http2.targets import Address, parse_target


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("inventory:50052", ("inventory", 50052)),
        ("dns:inventory:50052", ("inventory", 50052)),
        ("dns:///inventory:50052", ("inventory", 50052)),
        ("dns:///[::1]:50052", ("::1", 50052)),
    ],
)
def test_a_name_is_resolved(target: str, name: tuple[str, int]) -> None:
    """With or without the scheme."""
    parsed = parse_target(target)
    assert parsed.name == name
    assert parsed.authority == target.removeprefix("dns:").removeprefix("///")


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("unix:/run/inventory.sock", [Address(path="/run/inventory.sock")]),
        ("unix:///run/inventory.sock", [Address(path="/run/inventory.sock")]),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", [Address("10.0.0.1", 1), Address("10.0.0.2", 2)]),
        ("ipv6:[::1]:1,[::2]:2", [Address("::1", 1), Address("::2", 2)]),
    ],
)
async def test_addresses_are_taken_as_they_are(target: str, addresses: list[Address]) -> None:
    """There is nothing to resolve."""
    assert await parse_target(target).resolve() == tuple(addresses)


@pytest.mark.parametrize("target", ["dns://10.0.0.1/inventory:1", "xds:///inventory"])
def test_what_only_grpc_can_resolve_is_refused(target: str) -> None:
    """It must not be mistaken for another name."""
    with pytest.raises(ValueError, match="only gRPC can ask"):
        parse_target(target)


async def test_a_host_is_resolved_to_each_address_once() -> None:
    """Whatever kinds of sockets it has."""
    addresses = await parse_target("localhost:7").resolve()
    assert Address("127.0.0.1", 7) in addresses
    assert len(set(addresses)) == len(addresses)
