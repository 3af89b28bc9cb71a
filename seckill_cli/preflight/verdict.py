"""Go, no-go, or could not tell: what follows from checks, rehearsal and forecast. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from seckill.findings import FAILED, UNKNOWN
from seckill_cli.preflight.checks import Check, Plan
from seckill_cli.preflight.model import USE, Forecast, last_order_s
from seckill_cli.preflight.rehearsal import Rehearsed

# Of all buyers, those whose calls may fail: what a standard retry policy hides.
FAILURES_MAX = 0.001
# Buyers that came this much later than planned did not come at the planned rate.
LATE_MAX_S = 0.25
# From this share of a core on the generator's own delays are in the latencies.
BUSY_MAX = 0.9
# The generator's own address is limited, not the sale.
OWN_LIMIT = "RATE_LIMITED (ip"


class Answer(IntEnum):
    """The exit status."""

    GO = 0
    UNKNOWN = 1
    NO_GO = 2


@dataclass(frozen=True)
class Verdict:
    """The answer, and each reason for it."""

    answer: Answer
    reasons: tuple[str, ...]


def judge(
    checks: Sequence[Check],
    plan: Plan,
    rehearsed: Rehearsed | None,
    expected: Forecast | None,
    *,
    problem: str = "",
) -> Verdict:
    """Return the verdict.

    Args:
        rehearsed, expected: None if there was no rehearsal.
        problem: why not.
    """
    against = [f"{one.where}: {one.name}: {one.found}" for one in checks if one.verdict == FAILED]
    unsure = [
        f"not known: {one.where}: {one.name}: {one.found}"
        for one in checks
        if one.verdict == UNKNOWN
    ]
    if rehearsed is None or expected is None:
        unsure.append(f"not rehearsed: {problem}")
    else:
        seen, doubts = _of_rehearsal(plan, rehearsed, expected)
        against += seen
        unsure += doubts
    if against:
        return Verdict(Answer.NO_GO, (*against, *unsure))
    return Verdict(Answer.UNKNOWN if unsure else Answer.GO, tuple(unsure))


def generator_limit(rehearsed: Rehearsed) -> str:
    """Return in what the generator itself was the limit; "" if it was not."""
    played = rehearsed.played
    if played.late_s > LATE_MAX_S:
        return f"buyers came up to {played.late_s:.1f} s late: this machine cannot play the crowd"
    if played.busy > BUSY_MAX:
        return f"it was busy for {played.busy:.0%} of the time"
    return ""


def _of_rehearsal(
    plan: Plan, rehearsed: Rehearsed, expected: Forecast
) -> tuple[list[str], list[str]]:
    """Return (reasons against the sale, reasons why it is not known)."""
    played = rehearsed.played
    against: list[str] = []
    unsure: list[str] = []
    limit = generator_limit(rehearsed)
    rate = f"{plan.rate_per_s:,.0f} buyers a second"
    if expected.rate_per_s < plan.rate_per_s:
        against.append(
            f"{expected.first} breaks first, at {expected.rate_per_s:,.0f} of {rate}:"
            f" {_pods(expected)}"
        )
    if expected.lost_share is not None and expected.lost_share > FAILURES_MAX:
        against.append(
            f"{expected.lost_share:.1%} of the crowd would not be answered within"
            f" {plan.deadline_s * 1000:,.0f} ms, by a simulation with what work costs"
        )
    failed = played.failures.total() / max(1, played.attempts)
    own = sum(count for name, count in played.failures.items() if name.startswith(OWN_LIMIT))
    if own:
        unsure.append(
            f"{own:,} calls were refused by the limit of this address: name it in"
            " SECKILL_GATEWAY_IP_EXEMPT for the rehearsal, or rehearse from within the mesh"
        )
    elif failed > FAILURES_MAX:
        reasons = ", ".join(f"{name} {count:,}" for name, count in played.failures.most_common(3))
        (unsure if limit else against).append(f"{failed:.1%} of the buyers failed: {reasons}")
    p99_s = played.latency_ms(0.99) / 1000
    if p99_s > plan.deadline_s:
        slow = f"p99 {p99_s * 1000:,.0f} ms, more than {plan.deadline_s * 1000:,.0f}"
        (unsure if limit else against).append(slow)
    last_s = last_order_s(rehearsed.stages, orders=min(plan.units, plan.buyers))
    if last_s > plan.payment_window_s:
        against.append(
            f"the last order is written after {last_s:,.0f} s, and must be paid within"
            f" {plan.payment_window_s:,.0f}: more replicas of the order service, and partitions"
        )
    if rehearsed.settled_s is None:
        against.append(
            "orders were not written in time: the order service or its stores break first"
        )
    if limit and expected.rate_per_s * USE < plan.rate_per_s:
        unsure.append(f"the generator was the limit: {limit}")
    return against, unsure


def _pods(expected: Forecast) -> str:
    return "it takes " + ", ".join(f"{count} {name}" for name, count in expected.pods.items())
