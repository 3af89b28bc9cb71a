"""Who may pass: the buckets and the identity, in the order of their cost."""

import time
from dataclasses import dataclass

from gateway.addresses import ClientAddresses
from gateway.buckets import Buckets
from gateway.front.call import Call
from gateway.identity import Buyer, Identity

# The one key of the bucket of all.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Moment:
    """The time, read once for a batch.

    Attributes:
        now_s: Unix time.
        monotonic_s: seconds since an arbitrary point.
    """

    now_s: float
    monotonic_s: float

    @classmethod
    def read(cls) -> "Moment":
        return cls(time.time(), time.monotonic())


class Admission:
    """Lets calls pass, or raises what to answer them."""

    def __init__(
        self,
        identity: Identity,
        addresses: ClientAddresses,
        *,
        all_calls: Buckets,
        by_address: Buckets,
        by_user: Buckets,
    ) -> None:
        self._identity = identity
        self._addresses = addresses
        self._all = all_calls
        self._by_address = by_address
        self._by_user = by_user

    def pass_all(self, moment: Moment) -> None:
        """Charge the bucket of all. Raises RateLimited."""
        self._all.take(ALL, moment.monotonic_s)

    def pass_anyone(self, call: Call, moment: Moment) -> None:
        """Charge the bucket of all and that of the address. Raises RateLimited."""
        self.pass_all(moment)
        if self._by_address.limited:
            peer = call.peer
            forwarded_for = None
            if self._addresses.speaks_for_others(peer):
                forwarded_for = call.metadata("x-forwarded-for")
            key = self._addresses.key(peer, forwarded_for)
            if key:
                self._by_address.take(key, moment.monotonic_s)

    def remembered(self, authorization: bytes | None, moment: Moment) -> Buyer | None:
        """The buyer, if this proof of his has been verified before and still holds."""
        return self._identity.remembered(authorization, now_s=moment.now_s)

    def pass_buyer(self, authorization: bytes | None, moment: Moment) -> Buyer:
        """The buyer, his bucket charged.

        Raises:
            IdentityMissing, IdentityInvalid: he has not said, or not proven, who he is.
            RateLimited: his bucket is empty.
        """
        buyer = self._identity.identify(authorization, now_s=moment.now_s)
        self.charge(buyer.user_id, moment)
        return buyer

    def charge(self, user_id: str, moment: Moment) -> None:
        """Charge the bucket of a buyer whose identity is proven. Raises RateLimited."""
        self._by_user.take(user_id, moment.monotonic_s)
