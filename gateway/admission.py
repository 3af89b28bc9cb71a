"""Who may pass: the operators' lists, the buckets and the identity, in the order of their cost."""

import time
from dataclasses import dataclass

from gateway.addresses import ClientAddresses
from gateway.buckets import Buckets
from gateway.entries import ALLOWED, DENIED, NO_ENTRIES, Entries
from gateway.front.call import Caller
from gateway.identity import Buyer, Identity
from gateway.metrics import count_denied
from gateway.rules import GateRules
from seckill.errors import Denied

# The one key of the bucket of all.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Moment:
    """The time, read once for a batch.

    Attributes:
        now_s: Unix time.
        monotonic_s: seconds since an arbitrary point.
        second_try: of calls whose addresses have been charged at the first.
    """

    now_s: float
    monotonic_s: float
    second_try: bool = False

    @classmethod
    def read(cls, *, second_try: bool = False) -> "Moment":
        return cls(time.time(), time.monotonic(), second_try)


class Admission:
    """Lets calls pass, or raises what to answer them."""

    def __init__(
        self,
        identity: Identity,
        addresses: ClientAddresses,
        *,
        all_calls: Buckets,
        by_address: Buckets,
        orders_by_address: Buckets,
        callbacks_by_address: Buckets,
        by_user: Buckets,
        issues_by_address: Buckets,
        issues_by_user: Buckets,
    ) -> None:
        """An address has three buckets, so that buying from it leaves room to poll and to pay, and
        one more for purchase tokens, as a buyer has.
        """
        self._identity = identity
        self._addresses = addresses
        self._all = all_calls
        self._by_address = by_address
        self._orders_by_address = orders_by_address
        self._callbacks_by_address = callbacks_by_address
        self._by_user = by_user
        self._issues_by_address = issues_by_address
        self._issues_by_user = issues_by_user
        self._entries: Entries = NO_ENTRIES
        self._judges_callers = False

    def take_rules(self, rules: GateRules) -> None:
        """Allow and deny by these rules from now on."""
        self._entries = rules.entries
        # While no entry is about addresses or user agents, they are not looked at.
        self._judges_callers = rules.entries.has_networks or bool(rules.entries.user_agents)

    def charge_client(self, caller: Caller, moment: Moment) -> None:
        """Charge a purchase, or a look at sales, to all and to the address.

        Raises:
            Denied: an operator has denied the address or the user agent; nothing is charged.
            RateLimited: a bucket is empty.
        """
        self._charge(caller, self._by_address, moment)

    def charge_order_call(self, caller: Caller, moment: Moment) -> None:
        """Charge a call about an order to all and to the address. Raises as `charge_client`."""
        self._charge(caller, self._orders_by_address, moment)

    def charge_callback(self, caller: Caller, moment: Moment) -> None:
        """Charge a provider's callback to all and to the address. Raises as `charge_client`."""
        self._charge(caller, self._callbacks_by_address, moment)

    def _charge(self, caller: Caller, buckets: Buckets, moment: Moment) -> None:
        if moment.second_try:
            return
        allowed = self._judges_callers and self._is_allowed(caller)
        self._all.take(ALL, moment.monotonic_s)
        if buckets.limited and not allowed:
            key = self.address(caller)
            if key:
                buckets.take(key, moment.monotonic_s)

    def _is_allowed(self, caller: Caller) -> bool:
        """Whether the address is on the list of those allowed.

        Raises:
            Denied: the address or the user agent is on the list of those denied.
        """
        entries = self._entries
        if entries.user_agents and entries.of_user_agent(caller.metadata("user-agent")) is DENIED:
            count_denied("user_agent")
            raise Denied
        if not entries.has_networks:
            return False
        number = self._addresses.number(caller.peer, self._forwarded_for(caller))
        verdict = entries.of_address(number)
        if verdict is DENIED:
            count_denied("network")
            raise Denied
        return verdict is ALLOWED

    def _forwarded_for(self, caller: Caller) -> str | None:
        if self._addresses.is_trusted_proxy(caller.peer):
            return caller.metadata("x-forwarded-for")
        return None

    def address(self, caller: Caller) -> str:
        """The name of the caller's address; "" if it is exempt, or has none."""
        return self._addresses.key(caller.peer, self._forwarded_for(caller))

    def fingerprint(self, authorization: bytes | None, *, now_s: float) -> bytes | None:
        """The digest of the payment fingerprint of a buyer whose token is remembered, or None."""
        buyer = self._identity.remembered(authorization, now_s=now_s)
        return None if buyer is None else buyer.standing.fingerprint

    def authenticate(self, authorization: bytes | None, moment: Moment) -> Buyer:
        """Return the buyer, and charge their bucket.

        Raises:
            IdentityMissing, IdentityInvalid: the caller has not said, or not proven, who they are.
            Denied: an operator has denied the buyer.
            RateLimited: the buyer's bucket is empty.
        """
        buyer = self._identity.remembered(authorization, now_s=moment.now_s)
        if buyer is not None:
            self._charge_user(buyer, moment)
            return buyer
        buyer = self._identity.identify(authorization, now_s=moment.now_s)
        self._charge_user(buyer, moment)
        # Last: only what a buyer has paid for is kept.
        if authorization is not None:
            self._identity.remember(authorization, buyer)
        return buyer

    def charge_issue(self, caller: Caller, buyer: Buyer, moment: Moment) -> tuple[str, str]:
        """Charge a purchase token to its buyer and their address.

        Returns:
            Whose buckets were charged, user and address; "" for one that is allowed or exempt.

        Raises:
            RateLimited: a bucket is empty.
        """
        allowed = self._judges_callers and self._is_allowed(caller)
        address = "" if allowed else self.address(caller)
        user_id = buyer.user_id
        if self._entries.users.get(user_id) is ALLOWED:
            user_id = ""
        if address:
            self._issues_by_address.take(address, moment.monotonic_s)
        if user_id:
            self._issues_by_user.take(user_id, moment.monotonic_s)
        return user_id, address

    def _charge_user(self, buyer: Buyer, moment: Moment) -> None:
        if self._entries.users:
            verdict = self._entries.users.get(buyer.user_id)
            if verdict is DENIED:
                count_denied("user")
                raise Denied
            if verdict is ALLOWED:
                return
        self._by_user.take(buyer.user_id, moment.monotonic_s)
