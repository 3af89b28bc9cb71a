"""Decides whether a caller gets a purchase token, by the risk and by the cap on unpaid orders.

A sale whose policy asks for nothing, without a cap, never comes here. What comes here is decided
where tokens are issued and nowhere else: that a buyer has a token says that they passed.
"""

from gateway.admission import Moment
from gateway.challenge.challenges import Challenges
from gateway.metrics import count_risk_decision
from gateway.risk.assessor import Applicant, Assessor
from gateway.risk.judgement import Thresholds, Tier
from gateway.unpaid_cap import UnpaidCap
from seckill.errors import RiskRefused


def asks(policy: Thresholds) -> bool:
    """Whether a sale's policy looks at risk at all."""
    return bool(policy.challenge_at or policy.refuse_at or policy.require_clean_history)


class TokenGate:
    """Lets callers pass, or raises what to answer them."""

    def __init__(
        self, assessor: Assessor, challenges: Challenges, cap: UnpaidCap | None = None
    ) -> None:
        """`cap`: on orders that await payment; None for none."""
        self._assessor = assessor
        self._challenges = challenges
        self._cap = cap

    def asks(self, policy: Thresholds) -> bool:
        """Whether anything is to be decided of callers for a sale with this policy."""
        return asks(policy) or (self._cap is not None and self._cap.on)

    async def admit(
        self, applicant: Applicant, policy: Thresholds, solution: str, moment: Moment
    ) -> None:
        """Return if the caller may have a token.

        Args:
            solution: of a challenge; empty if the caller sent none.

        Raises:
            RiskRefused, TooManyUnpaid: they may not.
            ChallengeRequired: they may once they have solved the challenge that it carries.
            InvalidField: the solution is malformed.
            DependencyUnavailable, Overloaded: it cannot be decided now.
        """
        if not asks(policy):
            await self._check_cap(applicant)
            return
        judgement = await self._assessor.decide(
            applicant, policy, now_s=moment.now_s, monotonic_s=moment.monotonic_s
        )
        count_risk_decision(judgement.tier, judgement.leading)
        if judgement.tier is Tier.REFUSE:
            raise RiskRefused
        # Before the challenge: a caller who is refused need not solve one.
        await self._check_cap(applicant)
        if judgement.tier is Tier.CHALLENGE:
            await self._challenges.require_solution(
                solution,
                user_id=applicant.user_id,
                sku=applicant.sku,
                address=applicant.address,
                now_s=moment.now_s,
            )

    async def _check_cap(self, applicant: Applicant) -> None:
        """Raise TooManyUnpaid if the caller has as many unpaid orders as may be."""
        if self._cap is not None:
            await self._cap.check(applicant.user_id, applicant.standing.fingerprint)
