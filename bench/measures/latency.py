"""Latency against offered load: open loop, so that slow answers hold no later call back."""

from bench.sample import Sample
from bench.world import PATH, World

# Shares of the capacity that the closed loop has found.
CURVE_SAMPLES = {f"purchase_at_{percent}": percent / 100 for percent in (25, 50, 75, 90)}
HALF, LONE = 0.5, 0.05
# More calls in flight than in a closed loop, since arrivals bunch.
CONNECTIONS, IN_FLIGHT = 8, 128


def half(world: World) -> dict[str, Sample]:
    """`echo_half` and `purchase_half`: each at half of its own capacity, in calls a second."""
    return {
        "echo_half": _echo(world, HALF * world.capacity["echo"]),
        "purchase_half": _purchases(world, HALF * world.capacity["purchase"]),
    }


def lone(world: World) -> dict[str, Sample]:
    """Purchases at a twentieth of the capacity: next to each comes alone."""
    return {"lone": _purchases(world, LONE * world.capacity["purchase"])}


def curve(world: World) -> dict[str, Sample]:
    """`purchase_at_25`, … : purchases at shares of the capacity, in per cent."""
    return {
        name: _purchases(world, share * world.capacity["purchase"])
        for name, share in CURVE_SAMPLES.items()
    }


def _echo(world: World, rate_per_s: float) -> Sample:
    return world.load.run(
        "echo",
        world.echo_address,
        rate=rate_per_s,
        seconds=world.sizes.seconds,
        connections=CONNECTIONS,
        in_flight=IN_FLIGHT,
        clocks=world.clocks("echo"),
    ).require()


def _purchases(world: World, rate_per_s: float) -> Sample:
    buyers = min(int(rate_per_s * world.sizes.seconds), world.sizes.crowd_buyers)
    sku = world.create_sale(units=buyers)
    world.issue(sku, buyers=buyers)
    sample = world.load.run(
        "purchase",
        world.gateway.address,
        sku=sku,
        buyers=buyers,
        total=buyers,
        rate=rate_per_s,
        connections=CONNECTIONS,
        in_flight=IN_FLIGHT,
        clocks=world.clocks(*PATH),
    )
    world.expect_orders(sample)
    world.settle()
    return sample.require(outcome="RESERVED")
