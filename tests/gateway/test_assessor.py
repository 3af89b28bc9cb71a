"""What is asked for before a caller is judged, and what is remembered of it."""

from dataclasses import dataclass, field

import pytest

from gateway.risk.assessor import Applicant, Assessor
from gateway.risk.crowds import Crowds
from gateway.risk.facts import UNKNOWN_STANDING, Standing
from gateway.risk.judgement import Judge, Judgement, Tier
from gateway.risk.signals import Scale, parse_weights
from gateway.rules import SalePolicy
from seckill.errors import DependencyUnavailable, SeckillError

NOW_S = 1_800_000_000.0


@dataclass(frozen=True)
class Counts:
    """Of one user's orders."""

    unpaid: int = 0
    paid: int = 0


@dataclass
class Orders:
    """Knows the orders of users.

    Attributes:
        counts: by user.
        failure: what is raised instead.
        asked: users who were asked about.
    """

    counts: dict[str, Counts] = field(default_factory=dict)
    failure: SeckillError | None = None
    asked: list[str] = field(default_factory=list)

    async def get(self, user_id: str) -> Counts:
        self.asked.append(user_id)
        if self.failure is not None:
            raise self.failure
        return self.counts.get(user_id, Counts())


def assessor(orders: Orders | None, *, decisions_max: int = 100) -> Assessor:
    """With 60 points for the history, and 60 for the age of the account."""
    return Assessor(
        Judge(parse_weights("history=60,age=60,address=10"), Scale()),
        by_address=Crowds(window_s=600, keys_max=100),
        by_fingerprint=Crowds(window_s=600, keys_max=100),
        histories=orders,
        decisions_max=decisions_max,
    )


async def decide(
    to: Assessor, policy: SalePolicy, *, user: str = "u-1", standing: Standing = UNKNOWN_STANDING
) -> Judgement:
    """Judge a caller."""
    applicant = Applicant(user, "phone", "192.0.2.1", standing)
    return await to.decide(applicant, policy, now_s=NOW_S, monotonic_s=1.0)


async def test_unpaid_orders_raise_the_score() -> None:
    """What the order service says counts, at the sale's thresholds."""
    orders = Orders({"u-1": Counts(unpaid=3), "u-2": Counts(unpaid=3, paid=300)})
    judging = assessor(orders)
    policy = SalePolicy(challenge_at=50, refuse_at=90)
    judged = await decide(judging, policy)
    assert (judged.tier, judged.leading, judged.score) == (Tier.CHALLENGE, "history", 60)
    assert (await decide(judging, policy, user="u-2")).tier is Tier.PASS
    assert orders.asked == ["u-1", "u-2"]


async def test_nobody_is_asked_about_a_caller_who_is_refused_anyway() -> None:
    """A history never lowers a score, so it could change nothing."""
    orders = Orders()
    new = Standing(account_from_s=NOW_S)
    assert (await decide(assessor(orders), SalePolicy(refuse_at=60), standing=new)).tier is (
        Tier.REFUSE
    )
    assert orders.asked == []


async def test_without_an_answer_only_sales_that_insist_on_history_wait() -> None:
    """Others decide by what they know."""
    orders = Orders(failure=DependencyUnavailable("order does not answer"))
    judging = assessor(orders)
    assert (await decide(judging, SalePolicy(challenge_at=1))).tier is Tier.PASS
    with pytest.raises(DependencyUnavailable):
        await decide(judging, SalePolicy(require_clean_history=True))


async def test_the_last_decisions_are_remembered() -> None:
    """At most so many; what was known is kept, and what is foreseen is not noted."""
    orders = Orders({"u-1": Counts(unpaid=1)})
    judging = assessor(orders, decisions_max=4)
    policy = SalePolicy(challenge_at=10)
    new = Standing(account_from_s=NOW_S)
    await decide(judging, policy, standing=new)
    last = judging.last("u-1", "phone")
    assert last is not None
    assert (last.tier, last.at_s, last.facts.unpaid) == (Tier.CHALLENGE, NOW_S, 1)
    assert judging.last("u-1", "phones") is None
    later = await judging.foresee(
        "u-1", "phone", "192.0.2.2", policy, now_s=NOW_S + 60, monotonic_s=2.0
    )
    assert (later.facts.account_age_s, later.facts.address_users) == (60, 0)
    assert judging.last("u-1", "phone") == last
    for number in range(4):
        await decide(judging, policy, user=f"other-{number}")
    assert judging.last("u-1", "phone") is None
