"""What callers do: people and patient attackers use the client, naive ones a script."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from bench.bots.callers import Caller
from bench.bots.pace import Pace
from bench.bots.solving import Solver, hashes_of
from seckill.client import Call, CallFailed, Outcome, RetryPolicy
from seckill.client.flows import TOKEN_EXPIRED, TOKEN_INVALID
from seckill.client.results import OUTCOME_OF_REASON
from seckill.client.transport import OnCall, authorization, failure_of, new_request_id
from seckill.v1 import gateway_pb2, inventory_pb2
from seckill_cli.load.link import CrowdClient, Link, LinkError

FORWARDED_FOR = "x-forwarded-for"
CHALLENGE_REQUIRED = "CHALLENGE_REQUIRED"
# Of people, in seconds of the sale: for all calls of a visit, for one, and before a repetition.
PATIENCE_S = 15.0
CALL_TIMEOUT_S = 5.0
PAUSE_MIN_S, PAUSE_MAX_S = 0.3, 2.0
# Of a naive script, in seconds of the sale: from an answer to the next call, and until it gives up.
HAMMER_PAUSE_S = 0.1
HAMMER_UNTIL_S = 6.0
# What ends a script: there is nothing more to be had.
_DONE = frozenset({"RESERVED", "ALREADY_PURCHASED", "SOLD_OUT", "ENDED"})


@dataclass(kw_only=True)
class Visit:
    """What became of one caller.

    Attributes:
        ending: the last outcome, or the reason of the last failure.
        answered: the sale itself has answered: sold, sold out and the like.
        calls: how many were made.
        challenges: how often a solution was asked for.
        hashes: that solutions took, at the small price that the drill sets.
        late_s: seconds of the machine by which the first call was late.
        failures: calls that failed, by reason.
    """

    user_id: str
    ending: str = ""
    answered: bool = False
    calls: int = 0
    challenges: int = 0
    hashes: int = 0
    late_s: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    _solution: str = ""

    def note(self, call: Call) -> None:
        """Count a call that has ended."""
        self.calls += 1
        if isinstance(call.request, gateway_pb2.IssuePurchaseTokenRequest):
            self._note_solution(call.request.challenge_solution)
        if call.failure is not None:
            self.note_failure(call.failure)

    def _note_solution(self, solution: str) -> None:
        if solution and solution != self._solution:
            self._solution = solution
            self.hashes += hashes_of(solution)

    def note_failure(self, failure: CallFailed) -> None:
        """Count a call that failed; outcomes that came as a status did not."""
        reason = failure.reason or failure.code.name
        if reason in OUTCOME_OF_REASON:
            return
        self.failures[reason] += 1
        self.challenges += reason == CHALLENGE_REQUIRED

    def end(self, ending: str, *, answered: bool) -> None:
        """Say what came of it last."""
        self.ending, self.answered = ending, answered


class AddressedClient(CrowdClient):
    """A client whose calls come from an address: the proxy before the gateway says so."""

    def __init__(self, target: str, *, solver: Solver) -> None:
        super().__init__(target)
        self._solver = solver
        self.address = ""

    def at(self, address: str, jwt: str, *, policy: RetryPolicy, on_call: OnCall) -> Self:
        """Return the client of one caller over the same connection."""
        other = self.acting_for(jwt, policy=policy, on_call=on_call)
        other.address = address
        return other

    async def _who(self, as_buyer: bool) -> tuple[tuple[str, str], ...]:
        return (*await super()._who(as_buyer), (FORWARDED_FOR, self.address))


async def visit(
    client: AddressedClient, caller: Caller, jwt: str, *, sku: str, pace: Pace
) -> Visit:
    """Come, buy, repeat once or twice what was turned away, no sooner than told."""
    slow = pace.slow
    seen = Visit(user_id=caller.user_id)
    policy = RetryPolicy(
        attempts_max=caller.retries + 1,
        attempt_timeout_s=CALL_TIMEOUT_S * slow,
        pause_min_s=PAUSE_MIN_S * slow,
        pause_max_s=PAUSE_MAX_S * slow,
    )
    buyer = client.at(caller.address, jwt, policy=policy, on_call=seen.note)
    seen.late_s = await pace.until(caller.arrives_s)
    for _ in range(2):
        try:
            outcome = (await buyer.buy(sku, timeout_s=PATIENCE_S * slow)).outcome
        except CallFailed as failure:
            seen.end(failure.reason or failure.code.name, answered=False)
            return seen
        seen.end(outcome.name, answered=True)
        if outcome is not Outcome.NOT_STARTED:
            break
        await pace.until(caller.again_s)
    return seen


async def hammer(link: Link, caller: Caller, jwt: str, *, sku: str, pace: Pace) -> Visit:
    """Come early, hold a token ready, and send purchases one after the other."""
    seen = Visit(user_id=caller.user_id)
    metadata = (authorization(jwt), (FORWARDED_FOR, caller.address))
    seen.late_s = await pace.until(caller.arrives_s)
    script = _Script(link, metadata, sku, timeout_s=CALL_TIMEOUT_S * pace.slow)
    while pace.now_s() < HAMMER_UNTIL_S:
        seen.calls += 1
        try:
            ending = await script.step()
        except LinkError as error:
            failure = failure_of(error)
            seen.note_failure(failure)
            seen.end(failure.reason or failure.code.name, answered=False)
            script.forget_token(failure.reason)
        else:
            if ending:
                seen.end(ending, answered=True)
            if ending in _DONE:
                break
            if not ending:
                continue
        await pace.pause(HAMMER_PAUSE_S)
    return seen


class _Script:
    """A token, then purchases, without the client and without its pauses."""

    def __init__(
        self, link: Link, metadata: Sequence[tuple[str, str]], sku: str, *, timeout_s: float
    ) -> None:
        self._link = link
        self._metadata = metadata
        self._sku = sku
        self._timeout_s = timeout_s
        self._token = ""

    async def step(self) -> str:
        """Make the next call; return a purchase's outcome, "" for a token. Raises LinkError."""
        if not self._token:
            request = gateway_pb2.IssuePurchaseTokenRequest(sku=self._sku)
            answer = await self._call("IssuePurchaseToken", request.SerializeToString())
            self._token = gateway_pb2.IssuePurchaseTokenResponse.FromString(answer).purchase_token
            return ""
        purchase = gateway_pb2.PurchaseRequest(
            sku=self._sku,
            quantity=1,
            purchase_token=self._token,
            request_id=new_request_id(),
        )
        answer = await self._call("Purchase", purchase.SerializeToString())
        outcome = gateway_pb2.PurchaseResponse.FromString(answer).outcome
        return inventory_pb2.PurchaseOutcome.Name(outcome).removeprefix("PURCHASE_OUTCOME_")

    async def _call(self, method: str, request: bytes) -> bytes:
        return await self._link.call(method, request, self._metadata, self._timeout_s)

    def forget_token(self, reason: str) -> None:
        """Fetch a new token next if this one has ended."""
        if reason in {TOKEN_EXPIRED, TOKEN_INVALID}:
            self._token = ""
