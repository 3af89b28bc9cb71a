"""What a verified JWT says of its user, read once when the token is verified.

The issuer wrote it, but it may be of any shape: what is not as expected counts as not there.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.risk.facts import UNKNOWN_STANDING, Standing

# An account cannot be opened in the future, give or take a clock.
SKEW_S = 300.0
DIGEST_BYTES = 16
# Of one setting; each is looked at once a token.
CLAIMS_MAX = 32


class Eligibility(NamedTuple):
    """A claim that speaks for a user: it is `true`, or it is or lists this text.

    Attributes:
        claim: its name.
        value: the text; empty if `true` is asked for.
    """

    claim: str
    value: str

    def held(self, claims: Mapping[str, Any]) -> bool:
        """Whether the user holds it."""
        found = claims.get(self.claim)
        if not self.value:
            return found is True
        if isinstance(found, list):
            return self.value in found
        return isinstance(found, str) and found == self.value


def parse_eligibility(text: str) -> tuple[Eligibility, ...]:
    """Return the claims of "phone_verified,plan=gold"; raises ValueError naming a bad one."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        claim, equals, value = (word.strip() for word in part.partition("="))
        if not claim or (equals and not value):
            raise ValueError(f"{part!r} must be claim or claim=value")
        found.append(Eligibility(claim, value))
    if len(found) > CLAIMS_MAX:
        raise ValueError(f"names more than {CLAIMS_MAX} claims")
    return tuple(found)


class ClaimReader:
    """Reads the claims that settings name."""

    def __init__(
        self,
        *,
        account_from: str = "",
        fingerprint: str = "",
        eligibility: tuple[Eligibility, ...] = (),
        required: tuple[Eligibility, ...] = (),
    ) -> None:
        """
        Args:
            account_from: claim with the Unix time at which the account was opened; "" for none.
            fingerprint: claim with the fingerprint of the means of payment; "" for none.
            eligibility: claims that lower the risk.
            required: claims without which the score is the highest.
        """
        self._account_from = account_from
        self._fingerprint = fingerprint
        self._eligibility = eligibility
        self._required = required
        self._reads = bool(account_from or fingerprint or eligibility or required)

    def read(self, claims: Mapping[str, Any], *, now_s: float) -> Standing:
        """Return what the claims say; `now_s` is Unix time."""
        if not self._reads:
            return UNKNOWN_STANDING
        fingerprint = claims.get(self._fingerprint) if self._fingerprint else None
        return Standing(
            account_from_s=self._opened(claims, now_s) if self._account_from else None,
            lacking=sum(not claim.held(claims) for claim in self._eligibility),
            lacks_required=not all(claim.held(claims) for claim in self._required),
            fingerprint=_digest(fingerprint),
        )

    def _opened(self, claims: Mapping[str, Any], now_s: float) -> float:
        """When the account was opened; now, if it is unknown: the risk of a new one."""
        found = claims.get(self._account_from)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return now_s
        try:
            opened_s = float(found)
        except OverflowError:
            return now_s
        return opened_s if math.isfinite(opened_s) and 0 < opened_s <= now_s + SKEW_S else now_s


def _digest(fingerprint: object) -> bytes | None:
    """The fingerprint, which may be of any length, in 16 bytes; None if it is none."""
    if not isinstance(fingerprint, str) or not fingerprint:
        return None
    # JSON may have halves of surrogate pairs.
    return hashlib.sha256(fingerprint.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES]
