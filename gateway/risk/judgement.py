"""From facts to a score, and from the score to a tier."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gateway.risk.facts import Facts
from gateway.risk.signals import SCORE_MAX, SIGNALS, Scale

# What leads where no signal does, and where a claim is missing that must be held.
NOTHING, REQUIRED_CLAIM = "none", "required_claim"
LEADING = (*SIGNALS, NOTHING, REQUIRED_CLAIM)


class Tier(StrEnum):
    """What is done with a caller."""

    PASS = "pass"  # noqa: S105 - no password
    CHALLENGE = "challenge"
    REFUSE = "refuse"


class Thresholds(Protocol):
    """What a sale asks for; see SalePolicy.

    Attributes:
        challenge_at, refuse_at: scores from which on; 0 is never.
        require_clean_history: one unpaid order refuses.
    """

    @property
    def challenge_at(self) -> int: ...
    @property
    def refuse_at(self) -> int: ...
    @property
    def require_clean_history(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision, and what it was made of.

    Attributes:
        facts: what was known.
        values: what each signal said, 0 to 1, in the order of SIGNALS.
        score: 0 to 100.
        tier: what is done.
        leading: the signal that added most, or NOTHING or REQUIRED_CLAIM.
    """

    facts: Facts
    values: tuple[float, ...]
    score: float
    tier: Tier
    leading: str


class Judge:
    """Applies the weights that settings give."""

    def __init__(self, weights: Mapping[str, float], scale: Scale) -> None:
        """`weights`: of each of SIGNALS, in points of the score."""
        self.weights = weights
        self._scale = scale

    def judge(self, facts: Facts, thresholds: Thresholds) -> Judgement:
        """Return the decision; it depends on nothing but the arguments and the settings."""
        values = tuple(signal(facts, self._scale) for signal in SIGNALS.values())
        points = [self.weights[name] * value for name, value in zip(SIGNALS, values, strict=True)]
        score = min(SCORE_MAX, sum(points))
        best = max(points)
        leading = list(SIGNALS)[points.index(best)] if best > 0 else NOTHING
        if facts.lacks_required:
            score, leading = SCORE_MAX, REQUIRED_CLAIM
        tier = _tier(score, thresholds)
        if thresholds.require_clean_history and facts.unpaid and tier is not Tier.REFUSE:
            tier, leading = Tier.REFUSE, "history"
        return Judgement(facts, values, score, tier, leading)


def _tier(score: float, thresholds: Thresholds) -> Tier:
    if thresholds.refuse_at and score >= thresholds.refuse_at:
        return Tier.REFUSE
    if thresholds.challenge_at and score >= thresholds.challenge_at:
        return Tier.CHALLENGE
    return Tier.PASS
