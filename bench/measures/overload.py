"""Far more calls than can be answered: what is still answered, and how soon all is well again.

Impatient buyers try again and again to buy from a sale that is selling: one purchase, and four
answers that they have it. At the peak a closed loop asks for that; in the overload an open loop
offers a multiple of the peak, by as many buyers as can be expected to be answered five times each,
so that the mix is about the same. Good is what was answered OK within a second of when it was due;
refused, late and lost calls are not, and neither are those that could not even be sent.
"""

from collections.abc import Mapping
from typing import Any

from bench.measures.offering import DEADLINE_S, REPEATING_TIMES, Door, Offering, name_of
from bench.sample import InvalidSample, Sample
from bench.world import PATH, PUBLIC_PATH, World

# Those who repeat at once do so once: twice the load, known beforehand.
HINTS: Mapping[str, Any] = {"repeats": 3, "obey": True}
AT_ONCE: Mapping[str, Any] = {"repeats": 1}
# The latency of a step in which no call was answered.
NOT_ANSWERED: Mapping[str, float] = {"p99": DEADLINE_S * 1000}


def gateway(world: World) -> dict[str, Sample]:
    """At one gateway's own port: all multiples, callers who repeat, and what happens meanwhile."""
    door = Door(name="overload", address=world.gateway.address, clocks=world.clocks(*PATH))
    offering = Offering(world, door, world.sizes.overload_times, further=2)
    found = offering.all_steps(recovery=True)
    for name, how in (("overload_hints_5x", HINTS), ("overload_at_once_5x", AT_ONCE)):
        found |= offering.step(name, REPEATING_TIMES, **how)
    offering.close()
    world.curves["seckill"] = offering.curve
    most = offering.offered[name_of("overload", max(world.sizes.overload_times))]
    found["overload_refusal"] = refusal_cost(most, offering.peak)
    return found | _together("overload", offering)


def edge(world: World) -> dict[str, Sample]:
    """Through Envoy, which is to refuse before the gateway: gRPC."""
    door = Door(
        name="overload_edge_grpc",
        address=world.edge.address,
        clocks=world.clocks(*PUBLIC_PATH),
        options={"tell_sku": True},
    )
    return _through_edge(world, door)


def edge_json(world: World) -> dict[str, Sample]:
    """The same as JSON over HTTP/1.1."""
    door = Door(
        name="overload_edge_json",
        address=world.edge.address,
        clocks=world.clocks(*PUBLIC_PATH),
        http=True,
    )
    return _through_edge(world, door)


def _through_edge(world: World, door: Door) -> dict[str, Sample]:
    offering = Offering(world, door, world.sizes.edge_times)
    found = offering.all_steps()
    offering.close()
    return found | _together(door.name, offering)


def grpcio(world: World) -> dict[str, Sample]:
    """A gateway behind grpc.aio, for the plot."""
    service = world.services.start(
        "gateway", cores=world.cores.servers, settings={"SECKILL_GATEWAY_FRONT": "grpcio"}
    )
    try:
        door = Door(name="overload_grpcio", address=service.address)
        return _for_the_plot(world, door, "grpc.aio")
    finally:
        service.stop()


def rival(world: World) -> dict[str, Sample]:
    """The Go rival, for the plot."""
    door = Door(name="overload_rival", address=world.rival_address, rival=True)
    return _for_the_plot(world, door, "Go rival")


def _for_the_plot(world: World, door: Door, title: str) -> dict[str, Sample]:
    offering = Offering(world, door, world.sizes.overload_times, pays=False)
    found = offering.all_steps()
    offering.close()
    world.curves[title] = offering.curve
    return found


def refusal_cost(offered: Sample, peak: Sample) -> Sample:
    """The calls that were not answered OK, and what the good ones have left of all CPU, if those
    cost what they did at the peak.

    Raises:
        InvalidSample: all were answered OK.
    """
    good = offered.statuses.get("OK", 0)
    if good == offered.calls:
        raise InvalidSample("nothing was refused")
    left = {
        name: used_s - good * peak.cpu_s[name] / peak.calls
        for name, used_s in offered.cpu_s.items()
    }
    # One process may have cost less a call than at the peak; all together are what counts.
    scale = max(0.0, sum(left.values())) / (sum(max(0.0, one) for one in left.values()) or 1.0)
    return Sample(
        calls=offered.calls - good,
        seconds=offered.seconds,
        cpu_s={name: max(0.0, one) * scale for name, one in left.items()},
        unfit=offered.unfit,
    )


def _together(door: str, offering: Offering) -> dict[str, Sample]:
    """Of all steps: the worst latency, connections closed, orders paid meanwhile."""
    beyond = [one for name, one in offering.offered.items() if offering.plain.get(name, 2) > 1]
    # Who has waited as told is answered late, from when the call was due: no measure of the mesh.
    latencies = [
        offering.offered[name].latency_ms or NOT_ANSWERED
        for name, times in offering.plain.items()
        if times > 1
    ]
    worst = max(latencies, key=lambda one: one["p99"])
    # The worst of all is as good as the step that was disturbed most.
    unfit = next((one.unfit for one in beyond if one.unfit), "")
    pays = offering.pays
    statuses = {
        status: sum(one.statuses.get(status, 0) for one in pays)
        for status in sorted({status for one in pays for status in one.statuses})
    }
    return {
        f"{door}_answered": Sample(
            calls=sum(one.statuses.get("OK", 0) for one in beyond),
            seconds=sum(one.seconds for one in beyond),
            latency_ms=worst,
            unfit=unfit,
        ),
        f"{door}_closed": Sample(
            calls=1, seconds=1.0, reconnects=sum(one.reconnects for one in beyond), unfit=unfit
        ),
        f"{door}_pays": Sample(
            calls=sum(one.calls for one in pays),
            seconds=sum(one.seconds for one in pays),
            statuses=statuses,
            unfit=unfit,
        ),
    }
