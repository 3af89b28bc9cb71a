"""The costs of a machine, from a few runs on it and the shares that results/latest.json gives."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.scale.real import Seen
from bench.scale.setups import FULL, GONE, LONE, Visit
from seckill_cli.scale.costs import (
    EDGE,
    GATEWAY,
    INVENTORY,
    ISSUE,
    KAFKA,
    LOAD,
    ORDER,
    ORDERS,
    PASS,
    POSTGRES,
    REDIS,
    REFUSE,
    RELAY,
    RESERVE,
    SHED,
    Cost,
    Costs,
    Point,
    fit,
)


@dataclass(frozen=True)
class Shares:
    """How what a stage takes for an order is divided among steps that no run tells apart.

    Attributes:
        inventory_relay: of inventory, what the relay takes.
        redis_relay, redis_order: of Redis, what the relay takes, and what the order's projection
            and delay take.
        shed: what a call takes of the gateway that is refused for its wait.
        edge_pass, edge_refuse: what Envoy takes for a call that it passes on, and for one that it
            refuses as its sale is sold out.

    The last three are shares of what an attempt takes of the gateway in full batches.
    """

    inventory_relay: float
    redis_relay: float
    redis_order: float
    shed: float
    edge_pass: float
    edge_refuse: float

    @classmethod
    def of(cls, latest: Mapping[str, Any]) -> "Shares":
        """Read them from `cpu_us_per_attempt` of a full run of the bench."""
        us = latest["cpu_us_per_attempt"]
        redis_us = us["order"]["redis"]
        return cls(
            inventory_relay=us["relay"]["inventory"] / us["order"]["inventory"],
            redis_relay=us["relay"]["redis"] / redis_us,
            redis_order=max(0.0, redis_us - us["purchase"]["redis"]) / redis_us,
            shed=us["overload_refusal"]["gateway"] / us["purchase"]["gateway"],
            edge_pass=us["overload_edge_grpc_peak"]["edge"] / us["purchase"]["gateway"],
            edge_refuse=us["storm"]["edge"] / us["purchase"]["gateway"],
        )


def calibrate(runs: Mapping[Visit, Sequence[Seen]], shares: Shares) -> Costs:
    """Return the costs that explain the runs of setups.CALIBRATION, by the mean of each."""
    few, many, gone = (mean_of(runs[visit]) for visit in (LONE, FULL, GONE))
    return costs_of(few, many, gone, shares)


def mean_of(runs: Sequence[Seen]) -> Seen:
    """Return the mean of runs of one visit."""

    def means(name: str) -> dict[str, float]:
        keys = getattr(runs[0], name)
        return {key: statistics.fmean(getattr(one, name)[key] for one in runs) for key in keys}

    return Seen(
        rate_per_s=statistics.fmean(one.rate_per_s for one in runs),
        written_s=statistics.fmean(one.written_s for one in runs),
        p99_ms=statistics.fmean(one.p99_ms for one in runs),
        cpu_s=means("cpu_s"),
        items=means("items"),
        issue_us=means("issue_us"),
    )


def costs_of(few: Seen, many: Seen, gone: Seen, shares: Shares) -> Costs:
    """Return the costs that explain the three runs."""

    def fitted(stage: str, batches: str, share: float = 1.0) -> Cost:
        def point(seen: Seen, visit: Visit) -> Point:
            return Point(seen.items[batches], share * seen.cpu_s[stage] / visit.buyers)

        return fit(point(few, LONE), point(many, FULL))

    def relayed(stage: str, share: float) -> Cost:
        return Cost(item_s=share * many.cpu_s[stage] / FULL.buyers)

    def deciding(stage: str, taken: float) -> Cost:
        """What is left when the full batches of other steps are taken out."""
        whole = fitted(stage, "attempts")
        item_s = whole.item_s - taken * many.cpu_s[stage] / FULL.buyers
        return Cost(whole.batch_s, max(0.0, item_s))

    gateway = fitted(GATEWAY, "attempts")
    attempt_s = many.cpu_s[GATEWAY] / FULL.buyers
    return Costs(
        {
            EDGE: {
                PASS: Cost(item_s=shares.edge_pass * attempt_s),
                REFUSE: Cost(item_s=shares.edge_refuse * attempt_s),
            },
            LOAD: {RESERVE: Cost(item_s=many.cpu_s[LOAD] / FULL.buyers)},
            GATEWAY: {
                ISSUE: Cost(item_s=many.issue_us[GATEWAY] / 1e6),
                RESERVE: gateway,
                REFUSE: Cost(item_s=gone.cpu_s[GATEWAY] / GONE.buyers),
                SHED: Cost(item_s=shares.shed * attempt_s),
            },
            INVENTORY: {
                RESERVE: deciding(INVENTORY, shares.inventory_relay),
                RELAY: relayed(INVENTORY, shares.inventory_relay),
            },
            REDIS: {
                ISSUE: Cost(item_s=many.issue_us[REDIS] / 1e6),
                RESERVE: deciding(REDIS, shares.redis_relay + shares.redis_order),
                RELAY: relayed(REDIS, shares.redis_relay),
                ORDER: relayed(REDIS, shares.redis_order),
            },
            KAFKA: {RELAY: fitted(KAFKA, "relayed")},
            ORDERS: {ORDER: fitted(ORDERS, "orders")},
            POSTGRES: {ORDER: fitted(POSTGRES, "orders")},
        }
    )
