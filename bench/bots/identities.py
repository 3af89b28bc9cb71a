"""JWTs with the claims that the gate's signals read, as a shop's issuer would write them."""

import time
from collections.abc import Iterable

from bench.bots.callers import Caller
from seckill.runtime.dev_issuer import DevIssuer

# Claims: Unix time at which the account was opened; fingerprint of the means of payment; whether a
# phone number was verified.
ACCOUNT_CLAIM = "account_opened_at"
FINGERPRINT_CLAIM = "payment_fingerprint"
PHONE_CLAIM = "phone_number_verified"


def mint(issuer: DevIssuer, callers: Iterable[Caller]) -> dict[str, str]:
    """Return each caller's JWT, by user id."""
    now_s = int(time.time())
    return {
        caller.user_id: issuer.token(
            caller.user_id,
            more={
                ACCOUNT_CLAIM: int(now_s - caller.account_age_s),
                FINGERPRINT_CLAIM: caller.fingerprint,
                PHONE_CLAIM: caller.phone_verified,
            },
        )
        for caller in callers
    }
