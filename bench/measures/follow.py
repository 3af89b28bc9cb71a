"""How long an accepted buyer waits: until their order can be seen, and until it is paid."""

from bench.sample import Sample
from bench.world import World


def follow(world: World) -> dict[str, Sample]:
    """`visible`: from the answer to the purchase until GetOrder knows the order. `paid`: until
    PayOrder has answered, by buyers who pay as soon as they see it. At a quiet rate.
    """
    return {name: _follow(world, name) for name in ("visible", "paid")}


def _follow(world: World, until: str) -> Sample:
    rate = world.sizes.follow_rate_per_s
    buyers = int(rate * world.sizes.seconds)
    sku = world.create_sale(units=buyers)
    world.issue(sku, buyers=buyers)
    sample = world.load.run(
        until,
        world.gateway.address,
        sku=sku,
        buyers=buyers,
        total=buyers,
        rate=rate,
    )
    world.expect_held(sku)
    world.settle()
    return sample.require(outcome="RESERVED").require()
