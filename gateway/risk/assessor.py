"""Collects what is known of a caller and judges it; remembers the last decisions."""

from typing import NamedTuple, Protocol

from gateway.risk.crowds import Crowds
from gateway.risk.facts import UNKNOWN_STANDING, Facts, Standing
from gateway.risk.judgement import Judge, Judgement, Thresholds, Tier
from seckill.errors import SeckillError
from seckill.runtime.recent import Recent


class Applicant(NamedTuple):
    """A caller who asks for a purchase token.

    Attributes:
        user_id: the subject of their JWT.
        sku: of the sale.
        address: as Admission.address names it; empty if they are exempt, or have none.
        standing: what their JWT says of them.
    """

    user_id: str
    sku: str
    address: str
    standing: Standing


class OrderCounts(Protocol):
    """What became of a user's orders.

    Attributes:
        unpaid: orders that were not paid in time, or given up.
        paid: orders that were paid.
    """

    @property
    def unpaid(self) -> int: ...
    @property
    def paid(self) -> int: ...


class Histories(Protocol):
    """Knows what became of users' orders."""

    async def get(self, user_id: str) -> OrderCounts:
        """Return a user's counts.

        Raises:
            DependencyUnavailable, Overloaded: they are not known, and cannot be asked for now.
        """


class Decision(NamedTuple):
    """A decision that was made.

    Attributes:
        at_s: Unix time.
        tier: what was done.
        facts: what was known.
        standing: what the user's JWT said.
    """

    at_s: float
    tier: Tier
    facts: Facts
    standing: Standing


class Assessor:
    """Decides what is done with callers."""

    def __init__(
        self,
        judge: Judge,
        *,
        by_address: Crowds,
        by_fingerprint: Crowds,
        histories: Histories | None,
        decisions_max: int,
    ) -> None:
        """
        Args:
            judge: applies the weights.
            by_address, by_fingerprint: users by address, and by hash of the payment fingerprint.
            histories: what became of users' orders; None if nobody knows.
            decisions_max: decisions in memory.
        """
        self.judge = judge
        self._by_address = by_address
        self._by_fingerprint = by_fingerprint
        self._histories = histories
        self._decisions: Recent[int, Decision] = Recent(decisions_max)

    async def decide(
        self, applicant: Applicant, thresholds: Thresholds, *, now_s: float, monotonic_s: float
    ) -> Judgement:
        """Return what is done with a caller, and remember it.

        The history, the one fact that another service has, is asked for only if the others have
        not refused the caller: it never lowers a score.

        Raises:
            DependencyUnavailable, Overloaded: the sale asks for a clean history, and the history
                cannot be asked for.
        """
        facts = self._facts(applicant, now_s=now_s, monotonic_s=monotonic_s, noting=True)
        judgement = self.judge.judge(facts, thresholds)
        if judgement.tier is not Tier.REFUSE and self._histories is not None:
            facts = await self._with_history(facts, applicant.user_id, thresholds)
            judgement = self.judge.judge(facts, thresholds)
        decision = Decision(now_s, judgement.tier, facts, applicant.standing)
        self._decisions.put(hash((applicant.user_id, applicant.sku)), decision)
        return judgement

    def last(self, user_id: str, sku: str) -> Decision | None:
        """The last decision on this user for this sale, if it is in memory."""
        return self._decisions.get(hash((user_id, sku)))

    async def foresee(
        self,
        user_id: str,
        sku: str,
        address: str,
        thresholds: Thresholds,
        *,
        now_s: float,
        monotonic_s: float,
    ) -> Judgement:
        """Return what would be decided now; note nothing.

        What the user's JWT said is taken from the last decision, if there is one.
        """
        last = self.last(user_id, sku)
        standing = UNKNOWN_STANDING if last is None else last.standing
        applicant = Applicant(user_id, sku, address, standing)
        facts = self._facts(applicant, now_s=now_s, monotonic_s=monotonic_s, noting=False)
        facts = await self._with_history(facts, user_id, thresholds)
        return self.judge.judge(facts, thresholds)

    def _facts(
        self, applicant: Applicant, *, now_s: float, monotonic_s: float, noting: bool
    ) -> Facts:
        """What is known in this process; `noting` counts the applicant among the users."""
        standing = applicant.standing

        def users(crowds: Crowds, key: str | bytes | None) -> float:
            if key is None:
                return 0.0
            if noting:
                return crowds.add(key, applicant.user_id, now_s=monotonic_s)
            return crowds.count(key, now_s=monotonic_s)

        opened_s = standing.account_from_s
        return Facts(
            address_users=users(self._by_address, applicant.address or None),
            fingerprint_users=users(self._by_fingerprint, standing.fingerprint),
            account_age_s=None if opened_s is None else max(0.0, now_s - opened_s),
            lacking=standing.lacking,
            lacks_required=standing.lacks_required,
        )

    async def _with_history(self, facts: Facts, user_id: str, thresholds: Thresholds) -> Facts:
        """The facts with the user's orders; a sale that insists on them is told if nobody knows."""
        if self._histories is None:
            return facts
        try:
            history = await self._histories.get(user_id)
        except SeckillError:
            if thresholds.require_clean_history:
                raise
            return facts
        return facts._replace(unpaid=history.unpaid, paid=history.paid)
