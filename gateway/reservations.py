"""Reservations: one BatchReserve for all who press for a sku at the same time."""

from collections import Counter
from collections.abc import Sequence

import grpc

from gateway.coalescing import Lane, Waiting
from gateway.front.call import Call
from gateway.metrics import count_attempts
from gateway.sales import Sales
from seckill.errors import (
    DETAILS_KEY,
    REFUSALS,
    DependencyUnavailable,
    OutcomeUnknown,
    SeckillError,
    from_rpc_error,
)
from seckill.sale_view import SKU_METADATA
from seckill.v1 import gateway_pb2, inventory_pb2, inventory_pb2_grpc

# What gRPC says when it had no connection to send on: nothing was reserved.
NEVER_SENT = (
    "connections to all backends failing",
    "failed to connect",
    "DNS resolution failed",
    "empty address list",
)


def _encoded(outcome: int) -> bytes:
    return gateway_pb2.PurchaseResponse(outcome=outcome).SerializeToString()  # type: ignore[arg-type]


# Most answers are refusals without an order number: encoded once.
ANSWERS: dict[int, bytes] = {
    value: _encoded(value) for value in inventory_pb2.PurchaseOutcome.values()
}


# The same as statuses, for callers who name their sku in metadata.
STATUSES = {outcome: kind() for outcome, kind in REFUSALS.items()}


def answer(call: Call, outcome: int) -> None:
    """Answer a press with an outcome that has no order number, in the form its caller expects."""
    if outcome in STATUSES and call.metadata(SKU_METADATA) is not None:
        call.fail(STATUSES[outcome])
    else:
        call.respond(ANSWERS[outcome])


class Attempt(Waiting):
    """One admitted press."""

    __slots__ = ("call", "quantity", "request_id", "user_id")

    def __init__(self, call: Call, *, user_id: str, request_id: str, quantity: int) -> None:
        self.call = call
        self.user_id = user_id
        self.request_id = request_id
        self.quantity = quantity

    def fail(self, error: SeckillError) -> None:
        self.call.fail(error)


class Reservations:
    """One lane for each sku that somebody presses for."""

    def __init__(
        self,
        stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
        sales: Sales,
        *,
        batch_max: int,
        under_way_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """The limits are those of each sku's Lane."""
        self._stub = stub
        self._sales = sales
        self._batch_max = batch_max
        self._under_way_max = under_way_max
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        self._lanes: dict[str, Lane[Attempt]] = {}

    def add(self, sku: str, attempt: Attempt) -> None:
        """Queue an attempt; `kick` sends. Raises Overloaded where too many wait for this sku."""
        lane = self._lanes.get(sku)
        if lane is None:
            lane = self._lanes[sku] = self._open_lane(sku)
        lane.add(attempt)

    def kick(self) -> None:
        """Send what waits. Lanes are few: the skus pressed for at this moment."""
        for sku, lane in list(self._lanes.items()):
            if lane.idle:
                del self._lanes[sku]
            else:
                lane.kick()

    def _open_lane(self, sku: str) -> Lane[Attempt]:
        async def send(batch: Sequence[Attempt], timeout_s: float) -> None:
            await self._reserve(sku, batch, timeout_s)

        return Lane(
            send,
            stage="inventory",
            batch_max=self._batch_max,
            under_way_max=self._under_way_max,
            waiting_max=self._waiting_max,
            timeout_s=self._timeout_s,
        )

    async def _reserve(self, sku: str, batch: Sequence[Attempt], timeout_s: float) -> None:
        request = inventory_pb2.BatchReserveRequest(sku=sku)
        add = request.items.add
        for attempt in batch:
            add(
                user_id=attempt.user_id,
                request_id=attempt.request_id,
                quantity=attempt.quantity,
            )
        try:
            response = await self._stub.BatchReserve(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise reserve_fault(error) from error
        if len(response.results) != len(batch):
            raise OutcomeUnknown("inventory answered for another batch")
        self._answer(sku, batch, response)

    def _answer(
        self,
        sku: str,
        batch: Sequence[Attempt],
        response: inventory_pb2.BatchReserveResponse,
    ) -> None:
        outcomes: Counter[int] = Counter()
        for attempt, result in zip(batch, response.results, strict=True):
            outcome = result.outcome
            outcomes[outcome] += 1
            if result.order_no or outcome not in ANSWERS:
                self._sales.note_holder(sku, attempt.user_id)
                # ReserveResult and PurchaseResponse have the same fields (a test holds that).
                attempt.call.respond(result.SerializeToString())
            else:
                answer(attempt.call, outcome)
        count_attempts(outcomes)


def reserve_fault(error: grpc.aio.AioRpcError) -> SeckillError:
    """What a failed BatchReserve means: only what was surely not sent has surely no effect."""
    for key, _ in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return from_rpc_error(error, stage="inventory")
    unsent = any(text in (error.details() or "") for text in NEVER_SENT)
    if error.code() is grpc.StatusCode.UNAVAILABLE and unsent:
        return DependencyUnavailable("inventory does not answer", metadata={"stage": "inventory"})
    return OutcomeUnknown()
