"""Go, no-go, or could not tell: what follows from what was seen."""

from collections import Counter
from dataclasses import replace

from seckill.findings import FAILED, OK, UNKNOWN, WARNING
from seckill_cli.preflight.checks import Check, Plan
from seckill_cli.preflight.crowd import Played
from seckill_cli.preflight.model import (
    ISSUE,
    ORDER,
    REFUSE,
    RESERVE,
    Forecast,
    Stage,
    forecast,
    mix_of,
)
from seckill_cli.preflight.rehearsal import Rehearsed
from seckill_cli.preflight.verdict import Answer, judge
from seckill_cli.preflight.waves import Costs

PLAN = Plan("phone", buyers=10_000, units=100, seconds=10.0, deadline_s=0.5)
# One gateway breaks at some 30,000 buyers a second.
GATEWAY = Stage(name="gateway", cost_s={ISSUE: 17e-6, RESERVE: 25e-6, REFUSE: 14e-6})
ORDERS = Stage(name="order", cost_s={ORDER: 34e-6}, behind=True)
GOOD = Played(latencies_s=[0.01] * 10_000, outcomes=Counter(RESERVED=100, SOLD_OUT=9_900), busy=0.3)
SEEN = Rehearsed(
    rate_per_s=PLAN.rate_per_s,
    played=GOOD,
    orders=100,
    settled_s=0.2,
    stages=(GATEWAY, ORDERS),
    costs=Costs(),
)
FINE = [Check("gateway", "limits", OK, "fine"), Check("order", "lag", WARNING, "3", "wait")]


def expected(plan: Plan = PLAN) -> Forecast:
    """Return the forecast for a plan."""
    mix = mix_of(buyers=plan.buyers, units=plan.units)
    return forecast(SEEN.stages, mix, rate_per_s=plan.rate_per_s)


def test_a_warning_does_not_stop_a_sale() -> None:
    """Go, without a reason."""
    found = judge(FINE, PLAN, SEEN, expected())
    assert (found.answer, found.reasons) == (Answer.GO, ())


def test_a_failed_check_is_no_go_whatever_was_rehearsed() -> None:
    """With its name, and where it was seen."""
    checks = [*FINE, Check("order", "partitions", FAILED, "has 1", "more")]
    found = judge(checks, PLAN, SEEN, expected())
    assert found.answer is Answer.NO_GO
    assert "order: partitions: has 1" in found.reasons


def test_what_was_not_looked_at_or_rehearsed_is_not_known() -> None:
    """Neither go nor no-go."""
    unknown = judge([Check("order", "answers", UNKNOWN, "old")], PLAN, SEEN, expected())
    assert unknown.answer is Answer.UNKNOWN
    assert judge(FINE, PLAN, None, None, problem="no identities").answer is Answer.UNKNOWN


def test_a_crowd_that_the_gateway_cannot_serve_is_no_go_with_the_pods_it_takes() -> None:
    """60,000 a second are twice what one does, and take three at the planned use."""
    plan = replace(PLAN, buyers=600_000)
    found = judge(FINE, plan, replace(SEEN, rate_per_s=60_000), expected(plan))
    assert found.answer is Answer.NO_GO
    assert "gateway breaks first" in found.reasons[0]
    assert "3 gateway" in found.reasons[0]


def test_slow_answers_and_failures_are_no_go() -> None:
    """Unless the generator itself was the limit, or its address."""
    slow = replace(SEEN, played=replace(GOOD, latencies_s=[0.6] * 10_000))
    assert judge(FINE, PLAN, slow, expected()).answer is Answer.NO_GO
    busy = replace(slow, played=replace(slow.played, busy=0.97))
    assert judge(FINE, PLAN, busy, expected()).answer is Answer.UNKNOWN
    failures = replace(SEEN, played=replace(GOOD, failures=Counter({"OVERLOADED": 50})))
    assert judge(FINE, PLAN, failures, expected()).answer is Answer.NO_GO
    own = replace(SEEN, played=replace(GOOD, failures=Counter({"RATE_LIMITED (ip)": 50})))
    found = judge(FINE, PLAN, own, expected())
    assert (found.answer, "SECKILL_GATEWAY_IP_EXEMPT" in found.reasons[0]) == (Answer.UNKNOWN, True)


def test_a_generator_that_is_too_slow_does_not_hide_what_the_waves_have_shown() -> None:
    """Far below the forecast it is go all the same; near it nobody knows."""
    late = replace(SEEN, played=replace(GOOD, late_s=2.0))
    assert judge(FINE, PLAN, late, expected()).answer is Answer.GO
    plan = replace(PLAN, buyers=250_000)
    assert judge(FINE, plan, late, expected(plan)).answer is Answer.UNKNOWN


def test_orders_that_come_after_their_payment_windows_are_no_go() -> None:
    """And those that did not come at all."""
    plan = replace(PLAN, buyers=100_000, units=100_000, seconds=100.0, payment_window_s=3.0)
    found = judge(FINE, plan, SEEN, expected(plan))
    assert (found.answer, "paid within 3" in found.reasons[0]) == (Answer.NO_GO, True)
    lost = replace(SEEN, settled_s=None)
    assert judge(FINE, PLAN, lost, expected()).answer is Answer.NO_GO
