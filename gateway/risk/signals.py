"""The signals: plain functions of the facts, from 0 (nothing speaks against the caller) to 1.

None of them is a proof. A carrier puts thousands of honest people behind one address; a family
shares a card. So each has a weight, and only what comes together refuses anybody.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from gateway.risk.facts import Facts

SCORE_MAX = 100.0


class Scale(NamedTuple):
    """Where the signals begin and end.

    Attributes:
        address_users: users behind one address: up to the first number the signal is 0, from the
            second on it is 1.
        fingerprint_users: the same for users with one payment fingerprint.
        account_age_s: from this age on an account is no young one.
        unpaid: so many unpaid orders, and none that was paid, are 1.
        claims: eligibility claims that settings name.
    """

    address_users: tuple[int, int] = (5, 50)
    fingerprint_users: tuple[int, int] = (2, 6)
    account_age_s: float = 30 * 86_400.0
    unpaid: int = 3
    claims: int = 0


Signal: TypeAlias = Callable[[Facts, Scale], float]


def _between(value: float, bounds: tuple[int, int]) -> float:
    low, high = bounds
    return min(1.0, max(0.0, (value - low) / (high - low)))


def shared_address(facts: Facts, scale: Scale) -> float:
    """Many users come from one address."""
    return _between(facts.address_users, scale.address_users)


def shared_fingerprint(facts: Facts, scale: Scale) -> float:
    """Many users pay by one means."""
    return _between(facts.fingerprint_users, scale.fingerprint_users)


def young_account(facts: Facts, scale: Scale) -> float:
    """The account was opened lately; an age that should be known and is not counts as none."""
    if facts.account_age_s is None:
        return 0.0
    return 1.0 - min(1.0, max(0.0, facts.account_age_s / scale.account_age_s))


def not_eligible(facts: Facts, scale: Scale) -> float:
    """The share of the shop's eligibility claims that the user does not hold."""
    return min(1.0, facts.lacking / scale.claims) if scale.claims else 0.0


def unpaid_history(facts: Facts, scale: Scale) -> float:
    """The user let reserved units lapse; what they paid for speaks for them."""
    if not facts.unpaid:
        return 0.0
    return min(1.0, facts.unpaid / scale.unpaid) * facts.unpaid / (facts.unpaid + facts.paid)


# By the names that settings, metrics and ExplainRisk use.
SIGNALS: dict[str, Signal] = {
    "address": shared_address,
    "fingerprint": shared_fingerprint,
    "age": young_account,
    "eligibility": not_eligible,
    "history": unpaid_history,
}
# Points that a signal of 1 adds to the score. No single one of them reaches a threshold of 70.
DEFAULT_WEIGHTS = "address=30,fingerprint=50,age=20,eligibility=20,history=40"


def parse_weights(text: str) -> dict[str, float]:
    """Return the weights of "address=30,…"; a signal that is not named has none.

    Raises:
        ValueError: a part names no signal, a signal stands twice, or its weight is not 0 to 100.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if not name and not number:
            continue
        if name not in SIGNALS:
            raise ValueError(f"{name!r} is no signal; there are {', '.join(SIGNALS)}")
        if name in weights:
            raise ValueError(f"signal {name!r} stands twice")
        try:
            weight = float(number)
        except ValueError:
            raise ValueError(f"the weight of {name!r} is no number") from None
        if not 0 <= weight <= SCORE_MAX:
            raise ValueError(f"the weight of {name!r} must be 0 to {SCORE_MAX:g}")
        weights[name] = weight
    return {name: weights.get(name, 0.0) for name in SIGNALS}
