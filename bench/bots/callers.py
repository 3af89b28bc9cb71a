"""Who calls: what a caller is like, and how one is drawn. Times are seconds of the sale."""

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

DAY_S = 86_400.0
# What a person needs from seeing that the sale has started to the first call: half of them less
# than the median. Simple reactions take 0.25 s; this one is to find the button, press, and load.
REACTION_MEDIAN_S = 1.2
REACTION_SIGMA = 0.7
# Nobody reacts sooner, whatever the distribution says, and nobody is waited for longer.
REACTION_MIN_S = 0.2
REACTION_MAX_S = 6.0


class Kind(StrEnum):
    """Who calls."""

    PERSON = "person"
    NAIVE = "naive"
    DISTRIBUTED = "distributed"
    ACCOUNTS = "accounts"


ATTACKERS = (Kind.NAIVE, Kind.DISTRIBUTED, Kind.ACCOUNTS)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One identity.

    Attributes:
        user_id: the subject of the JWT.
        address: where the calls come from.
        arrives_s: first call, in seconds after the start of the sale; negative is before.
        account_age_s: since the account was opened.
        fingerprint: of the means of payment.
        phone_verified: whether the shop has verified a phone number.
        retries: how often a failed call is repeated before the caller gives up.
        again_s: when one who came too early presses again, in seconds after the start.
    """

    kind: Kind
    user_id: str
    address: str
    arrives_s: float
    account_age_s: float
    fingerprint: str
    phone_verified: bool
    retries: int = 2
    again_s: float = 0.0


def draw_reaction(rng: random.Random) -> float:
    """Return a human reaction in seconds: log-normal."""
    drawn_s = rng.lognormvariate(0.0, REACTION_SIGMA) * REACTION_MEDIAN_S
    return min(REACTION_MAX_S, max(REACTION_MIN_S, drawn_s))


def addresses_of(network: str, rng: random.Random) -> Callable[[], str]:
    """Return a function that draws addresses of a network, each once."""
    base = ipaddress.ip_network(network)
    first, size = int(base.network_address) + 1, base.num_addresses - 2
    drawn: set[int] = set()

    def draw() -> str:
        while (offset := rng.randrange(size)) in drawn:
            pass
        drawn.add(offset)
        return str(ipaddress.ip_address(first + offset))

    return draw
