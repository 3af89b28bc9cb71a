"""Issues purchase tokens: a batch of them asks the buckets of all gateways at once.

A caller whom the buckets let pass has a token at once, unless the sale looks at risk: then the gate
has to let them pass, too.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from structlog.contextvars import bound_contextvars

from gateway.admission import Admission, Moment
from gateway.batching import Batcher, PendingItem
from gateway.front.call import Call
from gateway.identity import Buyer
from gateway.issue.shared_buckets import BucketStore, SharedBuckets
from gateway.issue.token_gate import TokenGate
from gateway.metrics import ISSUES_UNSHARED_TOTAL
from gateway.risk.assessor import Applicant
from gateway.risk.judgement import Thresholds
from seckill.errors import DependencyUnavailable, RateLimited, SeckillError
from seckill.runtime import request_ids
from seckill.runtime.faults import fault_of
from seckill.runtime.purchase_tokens import PurchaseTokens
from seckill.v1 import gateway_pb2


class Shared(NamedTuple):
    """Where the buckets of all gateways are, and the two kinds: of a buyer, of an address."""

    store: BucketStore
    by_user: SharedBuckets
    by_address: SharedBuckets


class Application(NamedTuple):
    """What the gate of a sale that looks at risk is told.

    Attributes:
        applicant: who asks.
        policy: of the sale.
        solution: of a challenge; empty for none.
        moment: when the call was begun.
    """

    applicant: Applicant
    policy: Thresholds
    solution: str
    moment: Moment


class PendingIssue(PendingItem):
    """A token that is issued once the shared buckets, and the gate, have let its buyer pass.

    Attributes:
        user_key, address_key: whose buckets are charged; "" for none.
        application: for the gate; None if the sale does not look at risk.
    """

    __slots__ = ("address_key", "application", "buyer", "call", "expire_ms", "sku", "user_key")

    def __init__(self, call: Call, buyer: Buyer, sku: str, *, expire_ms: int) -> None:
        self.call = call
        self.buyer = buyer
        self.sku = sku
        self.expire_ms = expire_ms
        self.user_key = ""
        self.address_key = ""
        self.application: Application | None = None

    def fail(self, error: SeckillError) -> None:
        self.call.fail(error)


class TokenIssuer:
    """Charges and signs. A buyer whom a local bucket refuses costs no question to Redis."""

    def __init__(
        self,
        admission: Admission,
        tokens: PurchaseTokens,
        gate: TokenGate,
        *,
        token_ttl_s: float,
        shared: Shared | None,
        batch_max: int,
        in_flight_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """
        Args:
            token_ttl_s: life of a purchase token.
            shared: None if each gateway has its own buckets only.
            batch_max, in_flight_max, waiting_max, timeout_s: as of Batcher.
        """
        self._admission = admission
        self._tokens = tokens
        self._gate = gate
        # The loop keeps only weak references to tasks.
        self._judging: set[asyncio.Task[None]] = set()
        self._token_ttl_s = token_ttl_s
        self._shared = shared
        self._batcher: Batcher[PendingIssue] = Batcher(
            self._ask,
            service="redis",
            batch_max=batch_max,
            in_flight_max=in_flight_max,
            waiting_max=waiting_max,
            timeout_s=timeout_s,
        )

    def add(
        self,
        call: Call,
        buyer: Buyer,
        request: gateway_pb2.IssuePurchaseTokenRequest,
        *,
        policy: Thresholds,
        moment: Moment,
    ) -> None:
        """Issue a token, at once or by the next `flush`.

        Args:
            policy: of the sale.
            moment: when the call was begun.

        Raises:
            RateLimited: a bucket of this gateway is empty.
            Overloaded: too many wait for Redis.
        """
        user_key, address_key = self._admission.charge_issue(call, buyer, moment)
        # It was asked for with the JWT, so it must not outlive it.
        expire_ms = int(min(moment.now_s + self._token_ttl_s, buyer.until_s) * 1000)
        issue = PendingIssue(call, buyer, request.sku, expire_ms=expire_ms)
        if self._gate.asks(policy):
            applicant = Applicant(buyer.user_id, request.sku, address_key, buyer.standing)
            issue.application = Application(applicant, policy, request.challenge_solution, moment)
        shared = self._shared
        if shared is None:
            self._let_pass(issue)
            return
        issue.user_key = user_key if shared.by_user.limited else ""
        issue.address_key = address_key if shared.by_address.limited else ""
        if not issue.user_key and not issue.address_key:
            self._let_pass(issue)
        elif shared.store.paused:
            ISSUES_UNSHARED_TOTAL.inc()
            self._let_pass(issue)
        else:
            self._batcher.add(issue)

    def flush(self) -> None:
        """Ask for those that wait."""
        self._batcher.flush()

    async def _ask(self, batch: Sequence[PendingIssue], _timeout_s: float) -> None:
        shared = self._shared
        if shared is None:
            raise AssertionError("an issue waits for buckets that are not there")
        try:
            refusals = await _refusals(shared, batch)
        except DependencyUnavailable:
            # The buckets of this gateway have let them pass: that must do.
            ISSUES_UNSHARED_TOTAL.inc(len(batch))
            refusals = {}
        for issue in batch:
            if issue in refusals:
                issue.fail(refusals[issue])
            else:
                self._let_pass(issue)

    def _let_pass(self, issue: PendingIssue) -> None:
        """Issue a token that the buckets allow; if there is a gate, once its buyer passed it."""
        if issue.application is None:
            self._sign(issue)
            return
        task = asyncio.create_task(self._judge(issue, issue.application), name="token gate")
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, issue: PendingIssue, application: Application) -> None:
        try:
            await self._gate.admit(*application)
        except SeckillError as error:
            issue.fail(error)
        except Exception as error:  # noqa: BLE001 - fails this call, not its batch
            with bound_contextvars(request_id=issue.call.request_id() or request_ids.new()):
                issue.fail(fault_of(error))
        else:
            self._sign(issue)

    def _sign(self, issue: PendingIssue) -> None:
        token = self._tokens.mint(
            issue.buyer.user_id,
            issue.sku,
            authorization=issue.call.authorization or b"",
            expire_ms=issue.expire_ms,
        )
        response = gateway_pb2.IssuePurchaseTokenResponse(purchase_token=token)
        response.expire_time.FromMilliseconds(issue.expire_ms)
        issue.call.respond(response.SerializeToString())


async def _refusals(
    shared: Shared, batch: Sequence[PendingIssue]
) -> dict[PendingIssue, RateLimited]:
    """Charge the shared buckets; return those whom one of them refuses."""
    by_user = [issue for issue in batch if issue.user_key]
    by_address = [issue for issue in batch if issue.address_key]
    of_users, of_addresses = await shared.store.take(
        [
            (shared.by_user, [issue.user_key for issue in by_user]),
            (shared.by_address, [issue.address_key for issue in by_address]),
        ]
    )
    answers = zip([*by_user, *by_address], [*of_users, *of_addresses], strict=True)
    return {issue: refused for issue, refused in answers if refused is not None}
