"""The kinds of fault, what each can hit, and the schedule of a seed: plain values, no I/O."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Replicas are named as in tests/kits/faults/cluster.py.
SERVICES = (
    "gateway",
    "inventory",
    "inventory/b",
    "order",
    "order/b",
    "rollback",
    "rollback/b",
)
STORES = ("redis", "kafka", "postgres")
FAILPOINTS = {
    "inventory": ("relay.before_send", "relay.after_ack"),
    "order": ("consumer.after_commit", "consumer.after_delay"),
    "rollback": ("rollback.after_cancel", "rollback.after_release", "rollback.after_mark"),
}
# The services that each service calls, besides its stores.
CALLS = {
    "gateway": ("inventory", "order"),
    "inventory": ("order",),
    "order": (),
    "rollback": ("order", "inventory"),
}
USES = {
    "gateway": (),
    "inventory": ("redis", "kafka"),
    "order": ("redis", "kafka", "postgres"),
    "rollback": ("redis",),
}
# From the end of a fault to the next one of the same target.
REST_S = 0.5
FAULT_EVERY_S = 1.6
# Faults end, and what they stopped runs again, this long before the end of the campaign.
QUIET_S = 1.0
FIRST_S = 1.0
# How often a minute Redis is made to forget something, in every other campaign.
LOSSES_A_MINUTE = 2.0


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """One fault.

    Attributes:
        at_s: when it starts, in seconds after the start of the campaign.
        lasts_s: how long it lasts; 0 for one that happens once.
        kind: a key of KINDS or LOSSES.
        target: the replica, link, store or sale that it hits.
        detail: more about it, by kind, e.g. the failpoint.
    """

    at_s: float
    lasts_s: float = 0.0
    kind: str
    target: str
    detail: str = ""

    def __str__(self) -> str:
        length = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind} {self.target}{detail}{length}"


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its weight among all, what it can hit, and its length in seconds."""

    weight: int
    targets: Sequence[str]
    least_s: float = 0.0
    most_s: float = 0.0


def service_of(replica: str) -> str:
    """Return the service of a replica: "order" of "order/b"."""
    return replica.partition("/")[0]


def replicas(service: str) -> list[str]:
    """Return the names of all replicas of a service."""
    return [name for name in SERVICES if service_of(name) == service]


def _links() -> Iterator[str]:
    for caller in SERVICES:
        service = service_of(caller)
        for store in USES[service]:
            yield f"{caller}>{store}"
        for callee in CALLS[service]:
            for replica in replicas(callee):
                yield f"{caller}>{replica}"


# Every connection that a proxy is put into: "caller>store" or "caller>service".
LINKS = tuple(_links())
_STOPPABLE = tuple(name for name in SERVICES if service_of(name) in FAILPOINTS)
KINDS = {
    "kill": Kind(10, SERVICES, 0.1, 3.0),
    "terminate": Kind(6, SERVICES, 0.1, 2.0),
    "freeze": Kind(6, SERVICES, 0.5, 6.0),
    "failpoint": Kind(12, _STOPPABLE, 2.0, 8.0),
    "drop": Kind(8, LINKS, 0.3, 4.0),
    "reset": Kind(10, LINKS),
    "hold requests": Kind(6, LINKS, 0.3, 4.0),
    "hold replies": Kind(8, LINKS, 0.3, 4.0),
    "delay": Kind(6, LINKS, 1.0, 6.0),
    "kill store": Kind(5, STORES, 0.1, 3.0),
    "freeze store": Kind(4, STORES, 0.5, 4.0),
    "end sessions": Kind(4, ("postgres",), 0.5, 4.0),
    "flush scripts": Kind(3, ("redis",), 0.5, 4.0),
    "delete delay set": Kind(3, ("redis",)),
    "repeat records": Kind(4, ("kafka",)),
    "poison record": Kind(2, ("kafka",)),
    "poison entry": Kind(2, ("sale",)),
    "cut broker log": Kind(3, ("kafka",), 0.1, 1.0),
    "trim outbox": Kind(3, ("sale",), 0.1, 1.0),
    "fill redis": Kind(3, ("redis",), 0.5, 4.0),
    "fail over redis": Kind(2, ("redis",), 1.0, 4.0),
    "stale master": Kind(2, ("redis",), 1.0, 6.0),
    "roll": Kind(3, ("all of inventory", "all of order", "all of rollback")),
}
LOSSES = {
    "lose sale": Kind(4, ("sale",)),
    "lose stock key": Kind(2, ("sale",)),
    "lose holds": Kind(3, ("sale",)),
    "raise stock": Kind(3, ("sale",)),
    "empty redis": Kind(2, ("redis",)),
    "cut log": Kind(3, ("redis",), 0.5, 2.0),
}


def draw_faults(rng: random.Random, sales: int, *, seconds: float) -> tuple[FaultPlan, ...]:
    """Return the faults of a campaign of `seconds` with so many sales, by start."""
    busy: dict[str, float] = {}
    faults: list[FaultPlan] = []
    lossy = rng.random() < 0.5
    end_s = seconds - QUIET_S
    at_s = FIRST_S
    while at_s < end_s:
        losing = lossy and rng.random() < LOSSES_A_MINUTE * FAULT_EVERY_S / 60
        fault = _draw_fault(rng, LOSSES if losing else KINDS, at_s, sales=sales, end_s=end_s)
        if busy.get(_resource(fault), 0.0) <= at_s:
            faults.append(fault)
            busy[_resource(fault)] = at_s + fault.lasts_s + REST_S
        at_s += rng.expovariate(1 / FAULT_EVERY_S)
    return tuple(faults)


def _resource(fault: FaultPlan) -> str:
    """Return what must not have two faults at once: a process, or a connection."""
    return fault.target


def _draw_fault(
    rng: random.Random, kinds: dict[str, Kind], at_s: float, *, sales: int, end_s: float
) -> FaultPlan:
    name = rng.choices(list(kinds), weights=[kind.weight for kind in kinds.values()])[0]
    kind = kinds[name]
    target = rng.choice(kind.targets)
    if target == "sale":
        target = f"sale {rng.randrange(sales)}"
    lasts_s = min(rng.uniform(kind.least_s, kind.most_s), end_s - at_s)
    return FaultPlan(
        at_s=round(at_s, 3),
        lasts_s=round(lasts_s, 3),
        kind=name,
        target=target,
        detail=_draw_detail(rng, name, target),
    )


def _draw_detail(rng: random.Random, kind: str, target: str) -> str:
    match kind:
        case "failpoint":
            name = rng.choice(FAILPOINTS[service_of(target)])
            action = rng.choices(("kill", "raise", "sleep"), weights=(6, 2, 2))[0]
            detail = f"{name}:{rng.randint(1, 4)}:{action}"
        case "delay":
            detail = f"{rng.choice((0.02, 0.1, 0.3))}"
        case "repeat records" | "poison record":
            detail = f"{rng.randint(1, 8)}"
        case "cut broker log":
            detail = f"{rng.choice((0.2, 0.5, 0.7, 0.95))}"
        case "raise stock" | "lose holds":
            detail = f"{rng.randint(1, 4)}"
        case "stale master":
            detail = f"{rng.choice(replicas('inventory'))}>redis"
        case _:
            detail = ""
    return detail
