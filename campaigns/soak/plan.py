"""What a campaign does, drawn from its seed before it starts: plain values, no clock, no store.

The same seed gives the same sales, buyers, acts of operators and faults. How long things take
differs from run to run, and so does which buyers win.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias

from campaigns.soak.faults import FaultPlan, draw_faults

Door: TypeAlias = Literal["gateway", "inventory"]
Manner: TypeAlias = Literal["insists", "leaves"]
# What a buyer does with their order.
Intent: TypeAlias = Literal[
    "ignores",
    "pays",
    "pays twice",
    "pays with two payments",
    "pays the wrong amount",
    "pays late",
    "cancels",
    "pays and cancels",
    "is stated as paid again and again",
    "is stated as paid late",
]
Task: TypeAlias = Literal["pause", "create again", "refund", "write off", "sweep", "compare"]

BUYERS_PER_S = 9.0
BUYERS_MAX = 20_000
# BURST_SHARE of the buyers come in bursts of this size, so that attempts are decided in batches.
BURST = 25
BURST_SHARE = 0.4
BUCKETS_MAX = 4
# All buyers have come when this share of the time is over: the last faults meet their orders.
ARRIVAL_SHARE = 0.92
ACT_EVERY_S = 6.0
INTENTS: dict[Intent, int] = {
    "ignores": 30,
    "pays": 30,
    "pays twice": 6,
    "pays with two payments": 4,
    "pays the wrong amount": 4,
    "pays late": 10,
    "cancels": 12,
    "pays and cancels": 4,
    "is stated as paid again and again": 6,
    "is stated as paid late": 6,
}
TASKS: dict[Task, int] = {
    "pause": 4,
    "create again": 3,
    "refund": 5,
    "write off": 2,
    "sweep": 2,
    "compare": 3,
}


@dataclass(frozen=True, kw_only=True)
class SalePlan:
    """A sale. `buckets`: those of its units; `opens_s`: seconds after the start of the campaign."""

    name: str
    units: int
    buckets: int = 1
    limit: int = 1
    window_s: float = 3.0
    rebuy: bool = False
    opens_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BuyerPlan:
    """A buyer.

    Attributes:
        sale: which one, as an index.
        at_s: when they come, in seconds after the start of the campaign.
        attempts: how many they make at once, with one request id.
        manner: whether they repeat an attempt that was not answered.
        timeout_s: how long they wait for the first answer.
        intent, after_s: what they do with their order, and how long after they have got it.
        comes_back: whether they make another attempt later, with another request id.
    """

    name: str
    sale: int
    at_s: float
    quantity: int = 1
    door: Door = "gateway"
    attempts: int = 1
    manner: Manner = "insists"
    timeout_s: float = 2.0
    intent: Intent = "ignores"
    after_s: float = 0.0
    comes_back: bool = False


@dataclass(frozen=True, kw_only=True)
class ActPlan:
    """What an operator does; `lasts_s`: until they reopen what they paused."""

    at_s: float
    task: Task
    sale: int
    lasts_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A campaign.

    Attributes:
        seconds: how long the faults go on.
        front: the gateway's front.
        rebuilds: whether operators rebuild sales that Redis has lost.
        reconciles: whether the reconciler repairs by itself.
    """

    seed: int
    seconds: float
    sales: Sequence[SalePlan]
    buyers: Sequence[BuyerPlan]
    acts: Sequence[ActPlan] = ()
    faults: Sequence[FaultPlan] = ()
    front: str = "http2"
    rebuilds: bool = True
    reconciles: bool = True

    @property
    def digest(self) -> str:
        """Return a name of the plan's content: plans with the same digest are the same."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:16]


def draw(seed: int, *, seconds: float) -> Plan:
    """Return the campaign of a seed; `seconds`: how long its faults go on."""
    rng = random.Random(f"sales {seed}")
    sales = _split(random.Random(f"buckets {seed}"), _draw_sales(rng, seconds=seconds))
    return Plan(
        seed=seed,
        seconds=seconds,
        sales=sales,
        buyers=_draw_buyers(random.Random(f"buyers {seed}"), sales, seconds=seconds),
        acts=_draw_acts(random.Random(f"operators {seed}"), len(sales), seconds=seconds),
        faults=draw_faults(random.Random(f"faults {seed}"), len(sales), seconds=seconds),
        front=rng.choice(("http2", "grpcio")),
    )


def _draw_sales(rng: random.Random, *, seconds: float) -> tuple[SalePlan, ...]:
    # With enough stock for some of those who come, not for all.
    some = int(BUYERS_PER_S * seconds / 10)
    return (
        SalePlan(name="rush", units=rng.randint(some // 2, some), window_s=rng.uniform(2, 5)),
        SalePlan(
            name="bulk",
            units=rng.randint(2 * some, 4 * some),
            limit=rng.randint(2, 5),
            window_s=rng.uniform(2, 6),
            rebuy=True,
        ),
        # Its payment time outlasts the campaign: the delay set must have all pending orders.
        SalePlan(
            name="slow",
            units=rng.randint(some // 2, 2 * some),
            limit=2,
            window_s=900.0,
            rebuy=rng.random() < 0.5,
        ),
        SalePlan(
            name="few",
            units=rng.randint(1, 3),
            window_s=rng.uniform(1, 3),
            rebuy=rng.random() < 0.5,
            opens_s=rng.uniform(0, 0.3) * seconds,
        ),
    )


def _split(rng: random.Random, sales: Sequence[SalePlan]) -> tuple[SalePlan, ...]:
    """Give half of the sales that have the units for it several buckets."""
    return tuple(
        replace(sale, buckets=rng.choice((1, 1, 2, BUCKETS_MAX)))
        if sale.units > BUCKETS_MAX
        else sale
        for sale in sales
    )


def _draw_buyers(
    rng: random.Random, sales: Sequence[SalePlan], *, seconds: float
) -> tuple[BuyerPlan, ...]:
    count = min(BUYERS_MAX, int(BUYERS_PER_S * seconds))
    times = sorted(_arrivals(rng, count, until_s=ARRIVAL_SHARE * seconds))
    return tuple(_draw_buyer(rng, number, at_s, sales) for number, at_s in enumerate(times))


def _arrivals(rng: random.Random, count: int, *, until_s: float) -> Iterator[float]:
    bursts = int(count * BURST_SHARE / BURST)
    for _ in range(bursts):
        yield from [rng.uniform(0, until_s)] * BURST
    for _ in range(count - bursts * BURST):
        yield rng.uniform(0, until_s)


def _draw_buyer(
    rng: random.Random, number: int, at_s: float, sales: Sequence[SalePlan]
) -> BuyerPlan:
    sale = rng.choices(range(len(sales)), weights=(4, 4, 3, 2))[0]
    terms = sales[sale]
    intent = rng.choices(list(INTENTS), weights=list(INTENTS.values()))[0]
    return BuyerPlan(
        name=f"buyer-{number}",
        sale=sale,
        at_s=round(at_s, 3),
        quantity=rng.randint(1, terms.limit),
        door=rng.choices(("gateway", "inventory"), weights=(3, 2))[0],
        attempts=rng.choices((1, 2, 5), weights=(16, 3, 1))[0],
        manner=rng.choices(("insists", "leaves"), weights=(4, 1))[0],
        timeout_s=rng.choice((0.05, 0.5, 2.0, 2.0)),
        intent=intent,
        after_s=round(_pause_s(rng, intent, terms), 3),
        comes_back=rng.random() < 0.25,
    )


def _pause_s(rng: random.Random, intent: Intent, terms: SalePlan) -> float:
    if intent in {"pays late", "is stated as paid late"}:
        # Around the very end of the payment time, and well after it.
        return min(terms.window_s, 8.0) * rng.choice((0.95, 1.0, 1.0, 1.3))
    return rng.uniform(0, min(terms.window_s, 4.0))


def _draw_acts(rng: random.Random, sales: int, *, seconds: float) -> tuple[ActPlan, ...]:
    acts = [
        ActPlan(
            at_s=round(rng.uniform(0.1, 0.9) * seconds, 3),
            task=rng.choices(list(TASKS), weights=list(TASKS.values()))[0],
            sale=rng.randrange(sales),
            lasts_s=round(rng.uniform(0.5, 2), 3),
        )
        for _ in range(int(seconds / ACT_EVERY_S))
    ]
    return tuple(sorted(acts, key=lambda act: act.at_s))
