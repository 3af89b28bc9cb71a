"""The simulated buyer: one identity, patience, and a record of what they were told.

For the demo, and for everything else that needs buyers who behave like clients.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from seckill.client import (
    Call,
    CallFailed,
    Outcome,
    OutcomeUnknown,
    RetryPolicy,
    SeckillClient,
    visible,
)
from seckill.client.aio import Identity
from seckill.client.flows import OrderTest
from seckill.client.transport import new_request_id
from seckill.v1 import order_pb2, sale_pb2

PATIENCE_S = 45.0
CALL_TIMEOUT_S = 5.0


@dataclass(kw_only=True)
class Attempt:
    """One purchase as the buyer saw it: all calls that were made under one request id.

    Attributes:
        start_s, end_s: monotonic seconds; `end_s` is None while it is under way.
        outcome: what the buyer was told; None if they were told nothing.
        order_no: the order that they were told of; empty without one.
        errors: each call that failed on the way, also those that were repeated.
        failure: why the attempt failed in the end; None if it was answered or cancelled.
        purchases: how often the purchase was sent.
        latency_s: seconds that the last purchase took.
    """

    user_id: str
    sku: str
    request_id: str
    quantity: int
    start_s: float
    end_s: float | None = None
    outcome: Outcome | None = None
    order_no: str = ""
    errors: list[CallFailed] = field(default_factory=list)
    failure: CallFailed | None = None
    purchases: int = 0
    latency_s: float = 0.0

    @property
    def unknown(self) -> bool:
        """Whether units may be held that the buyer was not told of."""
        if self.outcome is not None:
            return False
        # Cancelled from outside: whatever was sent may have been done.
        return (
            self.purchases > 0 if self.failure is None else isinstance(self.failure, OutcomeUnknown)
        )


def _ignore(_attempt: Attempt) -> None:
    pass


class Buyer:
    """One buyer over a shared connection.

    Attributes:
        attempts: all purchases, in the order of their starts.
    """

    def __init__(
        self,
        client: SeckillClient,
        user_id: str,
        identity: Identity,
        *,
        patience_s: float = PATIENCE_S,
        call_timeout_s: float = CALL_TIMEOUT_S,
        on_attempt: Callable[[Attempt], None] = _ignore,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        """Make a buyer.

        Args:
            client: whose connection is used.
            user_id: for the record; the identity says it to the mesh.
            identity: a JWT, or a function that returns one.
            patience_s: how long a call is repeated until it is answered; 0 makes each call once.
            call_timeout_s: longest time for one call.
            on_attempt: told of each attempt at its end.
            on_call: told of each call at its end.
        """
        self.user_id = user_id
        self.attempts: list[Attempt] = []
        self._patience_s = patience_s
        self._call_timeout_s = call_timeout_s
        self._client = client
        self._identity = identity
        self._on_attempt = on_attempt
        self._on_call = on_call

    @property
    def order_no(self) -> str:
        """The first order that the buyer was told of; empty without one."""
        return next((attempt.order_no for attempt in self.attempts if attempt.order_no), "")

    async def buy(self, sku: str, quantity: int = 1, *, request_id: str = "") -> Attempt:
        """Buy until it is answered or patience ends; failures are on the record, not raised."""
        attempt = Attempt(
            user_id=self.user_id,
            sku=sku,
            request_id=request_id or new_request_id(),
            quantity=quantity,
            start_s=time.monotonic(),
        )
        self.attempts.append(attempt)
        client = self._acting(attempt)
        try:
            answer = await client.buy(
                sku, quantity, request_id=attempt.request_id, timeout_s=self._timeout_s
            )
        except CallFailed as failure:
            attempt.failure = failure
        else:
            attempt.outcome, attempt.order_no = answer.outcome, answer.order_no
        finally:
            attempt.end_s = time.monotonic()
            self._on_attempt(attempt)
        return attempt

    async def wait(self, order_no: str = "", until: OrderTest = visible) -> order_pb2.Order:
        """Return an order (the buyer's first if none is named) once `until` holds of it."""
        return await self._acting().wait(
            order_no or self.order_no, until, timeout_s=self._timeout_s
        )

    async def pay(
        self, amount: sale_pb2.Money, *, order_no: str = "", payment_id: str = ""
    ) -> order_pb2.Order:
        """Pay an order (the buyer's first if none is named), always by the same payment id."""
        number = order_no or self.order_no
        return await self._acting().pay(
            number,
            payment_id=payment_id or f"pay-{number}",
            amount=amount,
            timeout_s=self._timeout_s,
        )

    async def cancel(self, order_no: str = "") -> order_pb2.Order:
        """Cancel an order (the buyer's first if none is named)."""
        return await self._acting().cancel(order_no or self.order_no, timeout_s=self._timeout_s)

    @property
    def _timeout_s(self) -> float:
        return self._patience_s or 2 * self._call_timeout_s

    def _acting(self, attempt: Attempt | None = None) -> SeckillClient:
        """Return a client that is this buyer and writes the attempt's record."""

        def note(call: Call) -> None:
            if attempt is not None:
                _note(attempt, call)
            if self._on_call is not None:
                self._on_call(call)

        policy = RetryPolicy(
            attempts_max=None if self._patience_s else 1,
            attempt_timeout_s=self._call_timeout_s,
            pause_max_s=0.5,
        )
        return self._client.acting_for(self._identity, policy=policy, on_call=note)


def _note(attempt: Attempt, call: Call) -> None:
    if call.failure is not None:
        attempt.errors.append(call.failure)
    if call.method == "Purchase":
        attempt.purchases += 1
        attempt.latency_s = call.seconds
