"""What is known of a caller who asks for a purchase token."""

import math
import struct
from typing import NamedTuple

# account_from_s, lacking, lacks_required, whether there is a fingerprint, fingerprint.
_PACKED = struct.Struct("<dB??16s")


class Standing(NamedTuple):
    """What the shop's issuer says of a user, by the claims that settings name.

    Attributes:
        account_from_s: Unix time at which the account was opened; the present if the claim that a
            setting names is missing or unreadable; None if no setting names one.
        lacking: how many of the eligibility claims the user does not hold.
        lacks_required: one of the claims that must be held is not.
        fingerprint: 16 bytes of the payment fingerprint's SHA-256, None if there is none.
    """

    account_from_s: float | None = None
    lacking: int = 0
    lacks_required: bool = False
    fingerprint: bytes | None = None

    def packed(self) -> bytes:
        """In a third of the memory, for tables; `unpack` is the reverse."""
        if self == UNKNOWN_STANDING:
            return b""
        return _PACKED.pack(
            math.nan if self.account_from_s is None else self.account_from_s,
            self.lacking,
            self.lacks_required,
            self.fingerprint is not None,
            self.fingerprint or b"",
        )

    @classmethod
    def unpack(cls, packed: bytes) -> "Standing":
        if not packed:
            return UNKNOWN_STANDING
        opened_s, lacking, lacks_required, has_fingerprint, fingerprint = _PACKED.unpack(packed)
        return cls(
            None if math.isnan(opened_s) else opened_s,
            lacking,
            lacks_required,
            fingerprint if has_fingerprint else None,
        )


# Of all users if settings name no claims.
UNKNOWN_STANDING = Standing()


class Facts(NamedTuple):
    """What the signals are computed from.

    Attributes:
        address_users: users behind the caller's address lately, an estimate; 0 without an address.
        fingerprint_users: users with the caller's payment fingerprint lately, an estimate.
        account_age_s: seconds since the account was opened; None if no claim says so by setting.
        lacking: eligibility claims that the user does not hold.
        lacks_required: one of the claims that must be held is not.
        unpaid: orders that the user did not pay in time, or gave up.
        paid: orders that they paid.
    """

    address_users: float = 0.0
    fingerprint_users: float = 0.0
    account_age_s: float | None = None
    lacking: int = 0
    lacks_required: bool = False
    unpaid: int = 0
    paid: int = 0
