"""Calls of the public: through Envoy, as JSON and as gRPC; and the rival's HTTP door."""

from collections.abc import Callable
from typing import Any

from bench.edge import require_own
from bench.measures.purchases import WARM_UP_S
from bench.sample import Sample
from bench.world import PATH, PUBLIC_PATH, World

# HTTP/1.1 has one call at a time on a connection: as many in flight as there are over gRPC.
HTTP: dict[str, Any] = {"transport": "http", "connections": 512, "in_flight": 1}
# gRPC with the sku in metadata. grpc-go's client costs more than Envoy's refusals.
TOLD: dict[str, Any] = {"transport": "h2", "tell_sku": True}


def purchase_json(world: World) -> dict[str, Sample]:
    """Distinct buyers buy a unit each, as JSON over HTTP/1.1 through Envoy."""
    buyers = world.sizes.public_buyers
    target = world.edge.address
    sku = world.create_sale(units=buyers)
    world.issue(sku, buyers=buyers)
    sample = world.load.run(
        "purchase",
        target,
        sku=sku,
        path=f"/v1/sales/{sku}:purchase",
        buyers=buyers,
        total=buyers,
        clocks=world.clocks(*PUBLIC_PATH),
        **HTTP,
    )
    world.expect_orders(sample)
    world.settle()
    return {"purchase_json": sample.require(outcome="RESERVED")}


def purchase_json_door(world: World) -> dict[str, Sample]:
    """The same at the gateway's own port, without Envoy."""
    buyers = world.sizes.public_buyers
    target = world.json_address
    sku = world.create_sale(units=buyers)
    world.issue(sku, buyers=buyers)
    sample = world.load.run(
        "purchase",
        target,
        sku=sku,
        path=f"/v1/sales/{sku}:purchase",
        buyers=buyers,
        total=buyers,
        clocks=world.clocks(*PATH),
        **HTTP,
    )
    world.expect_orders(sample)
    world.settle()
    return {"purchase_json_door": sample.require(outcome="RESERVED")}


def rival_json(world: World) -> dict[str, Sample]:
    """The same purchases through the rival's net/http."""
    buyers = world.sizes.public_buyers
    sku = world.create_rival_sale(units=buyers)
    world.issue(sku, buyers=buyers, target=world.rival_address)
    sample = world.load.run(
        "purchase",
        world.rival_http_address,
        sku=sku,
        path=f"/v1/sales/{sku}/purchase",
        buyers=buyers,
        total=buyers,
        clocks=world.clocks("rival", "redis"),
        **HTTP,
    )
    world.redis.delete(f"rival:users:{{{sku}}}", f"rival:queue:{{{sku}}}")
    return {"rival_purchase_json": sample.require(outcome="RESERVED")}


def storm(world: World) -> dict[str, Sample]:
    """After the last unit is sold Envoy refuses by itself: gRPC (`storm`), then `storm_json`."""
    buyers = world.sizes.storm_buyers
    sku = world.create_sale(units=1)
    world.issue(sku, buyers=buyers)
    first = world.load.run(
        "purchase", world.gateway.address, sku=sku, buyers=1, total=1, connections=1, in_flight=1
    )
    world.expect_orders(first.require(outcome="RESERVED"))
    # The buyer who holds the unit would be passed on.
    others: dict[str, Any] = {"sku": sku, "first": 1, "buyers": buyers - 1}
    path = f"/v1/sales/{sku}:purchase"

    def purchase_grpc(**more: Any) -> Sample:
        return world.load.run("purchase", world.edge.address, **others, **TOLD, **more)

    def purchase_as_json(**more: Any) -> Sample:
        return world.load.run("purchase", world.edge.address, path=path, **others, **HTTP, **more)

    world.poll_until(lambda: _refuses_alone(world, purchase_grpc))
    return {"storm": _storm(world, purchase_grpc), "storm_json": _storm(world, purchase_as_json)}


def _refuses_alone(world: World, attempt: Callable[..., Sample]) -> bool:
    before = world.edge.passed_on()
    attempt(total=10)
    return world.edge.passed_on() == before


def _storm(world: World, attempt: Callable[..., Sample]) -> Sample:
    attempt(seconds=WARM_UP_S)
    before = world.edge.passed_on()
    sample = attempt(seconds=world.sizes.seconds, clocks=world.clocks(*PUBLIC_PATH))
    require_own(calls=sample.calls, passed_on=world.edge.passed_on() - before)
    return sample.require(outcome="SOLD_OUT")
