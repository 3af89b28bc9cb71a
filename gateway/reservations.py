"""Reservations: one BatchReserve for all attempts at a sku that come at the same time."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import grpc

from gateway.admission_ratio import AdmissionRatio
from gateway.batching import Batcher, PendingItem
from gateway.front.call import Call
from gateway.metrics import count_attempts
from gateway.sales import Sales
from seckill.errors import (
    REFUSALS,
    REQUEST_CHANGES,
    DependencyUnavailable,
    InvalidField,
    OutcomeUnknown,
    SeckillError,
)
from seckill.runtime import tracing
from seckill.runtime.never_sent import was_never_sent
from seckill.runtime.sale_view import SKU_METADATA
from seckill.status import DETAILS_KEY, from_rpc_error
from seckill.v1 import gateway_pb2, inventory_pb2

# Share of a batch's time that its first try may take; but the whole time if that is shorter than
# this: a busy replica that is nearly done is not asked twice.
FIRST_TRY_SHARE = 0.5
FIRST_TRY_MIN_S = 0.5

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


def _encoded(outcome: int) -> bytes:
    return gateway_pb2.PurchaseResponse(outcome=outcome).SerializeToString()  # type: ignore[arg-type]


# Most answers are refusals without an order number: encoded once.
ANSWERS: dict[int, bytes] = {
    value: _encoded(value) for value in inventory_pb2.PurchaseOutcome.values()
}


# Outcomes that are no answer to the public: a request id was sent again with something else.
MISTAKES = {outcome: InvalidField([change]) for outcome, change in REQUEST_CHANGES.items()}
# The same as statuses, for callers who name their sku in metadata.
STATUSES = {outcome: kind() for outcome, kind in REFUSALS.items()}


def answer(call: Call, outcome: int) -> None:
    """Answer an attempt, which got no order number, in the form its caller expects."""
    if outcome in STATUSES and call.metadata(SKU_METADATA) is not None:
        call.fail(STATUSES[outcome])
    else:
        call.respond(ANSWERS[outcome])


class Attempt(PendingItem):
    """One admitted attempt."""

    __slots__ = ("call", "quantity", "request_id", "user_id")

    def __init__(self, call: Call, *, user_id: str, request_id: str, quantity: int) -> None:
        self.call = call
        self.user_id = user_id
        self.request_id = request_id
        self.quantity = quantity

    def fail(self, error: SeckillError) -> None:
        self.call.fail(error)


class BatchReserve(Protocol):
    """That method of InventoryService, over any channel. Raises AioRpcError if it fails."""

    def __call__(
        self, request: inventory_pb2.BatchReserveRequest, *, timeout: float
    ) -> Awaitable[inventory_pb2.BatchReserveResponse]: ...


class Reservations:
    """One batcher for each sku that is being bought."""

    def __init__(
        self,
        batch_reserve: BatchReserve,
        sales: Sales,
        *,
        ratio: AdmissionRatio,
        on_reserved: Callable[[Call, str], None] | None = None,
        batch_max: int,
        in_flight_max: int,
        waiting_max: int,
        timeout_s: float,
    ) -> None:
        """
        Args:
            batch_reserve: asks inventory_svc.
            sales: what is known of them.
            ratio: how many may be under way.
            on_reserved: is told of each call that was answered RESERVED, and its order's number.
            batch_max, in_flight_max, waiting_max, timeout_s: limits of each sku's Batcher.
        """
        self._batch_reserve = batch_reserve
        self._on_reserved = on_reserved
        self._sales = sales
        self._ratio = ratio
        self._batch_max = batch_max
        self._in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        self._batchers: dict[str, Batcher[Attempt]] = {}

    def add(self, sku: str, attempt: Attempt) -> None:
        """Queue an attempt; `flush` sends.

        Raises:
            Overloaded: too many wait for this sku.
            AdmissionFull: enough for what remains of the sale are under way.
        """
        batcher = self._batchers.get(sku)
        if batcher is None:
            batcher = self._batchers[sku] = self._open_batcher(sku)
        under_way = batcher.under_way
        if under_way >= self._batch_max:
            self._ratio.check(sku, attempt.user_id, under_way=under_way)
        batcher.add(attempt)

    def flush(self) -> None:
        """Send what waits. Batchers are few: the skus being bought at this moment."""
        for sku, batcher in list(self._batchers.items()):
            if batcher.idle:
                del self._batchers[sku]
            else:
                batcher.flush()

    def _open_batcher(self, sku: str) -> Batcher[Attempt]:
        async def send(batch: Sequence[Attempt], timeout_s: float) -> None:
            await self._reserve(sku, batch, timeout_s)

        return Batcher(
            send,
            service="inventory",
            batch_max=self._batch_max,
            in_flight_max=self._in_flight_max,
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
        response = await self._ask(request, timeout_s)
        if len(response.results) != len(batch):
            raise OutcomeUnknown("inventory answered for another batch")
        if tracing.current() is not None:
            _note_outcomes(batch, response)
        self._answer(sku, batch, response)

    async def _ask(
        self, request: inventory_pb2.BatchReserveRequest, timeout_s: float
    ) -> inventory_pb2.BatchReserveResponse:
        """Ask, and once more if the answer was lost: the attempts' ids make that harmless.

        The second try goes to another replica, if the balancing has one.
        """
        ends_s = time.monotonic() + timeout_s
        first_s = max(timeout_s * FIRST_TRY_SHARE, min(FIRST_TRY_MIN_S, timeout_s))
        try:
            return await self._batch_reserve(request, timeout=first_s)
        except grpc.aio.AioRpcError as error:
            fault = reserve_fault(error)
            left_s = ends_s - time.monotonic()
            if not isinstance(fault, OutcomeUnknown) or left_s <= 0:
                raise fault from error
        try:
            return await self._batch_reserve(request, timeout=left_s)
        except grpc.aio.AioRpcError as error:
            # Whatever it says: the first try may have reserved.
            raise OutcomeUnknown from error

    def _answer(
        self,
        sku: str,
        batch: Sequence[Attempt],
        response: inventory_pb2.BatchReserveResponse,
    ) -> None:
        if response.HasField("remaining_units"):
            self._sales.note_remaining(sku, response.remaining_units)
        outcomes: Counter[int] = Counter()
        reserved: list[tuple[Call, str]] = []
        for attempt, result in zip(batch, response.results, strict=True):
            outcome = result.outcome
            outcomes[outcome] += 1
            if outcome in MISTAKES:
                attempt.call.fail(MISTAKES[outcome])
            elif result.order_no or outcome not in ANSWERS:
                self._sales.note_holder(sku, attempt.user_id)
                self._ratio.note_told(sku, attempt.user_id)
                # ReserveResult and PurchaseResponse have the same fields (a test holds that).
                attempt.call.respond(result.SerializeToString())
                if outcome == RESERVED:
                    reserved.append((attempt.call, result.order_no))
            else:
                answer(attempt.call, outcome)
        count_attempts(outcomes)
        if self._on_reserved is not None:
            for call, order_no in reserved:
                self._on_reserved(call, order_no)


def _note_outcomes(batch: Sequence[Attempt], response: inventory_pb2.BatchReserveResponse) -> None:
    """Say in the spans of calls what became of their attempts."""
    live = {} if tracing.tracer is None else tracing.tracer.live
    for index, attempt in enumerate(batch):
        span = live.get(attempt.call)
        if span is not None:
            result = response.results[index]
            name = inventory_pb2.PurchaseOutcome.Name(result.outcome)
            span.attributes["seckill.outcome"] = name.removeprefix("PURCHASE_OUTCOME_")
            if result.order_no:
                span.attributes["seckill.order_no"] = result.order_no


def reserve_fault(error: grpc.aio.AioRpcError) -> SeckillError:
    """What a failed BatchReserve means: only what was surely not sent has surely no effect."""
    for key, _ in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return from_rpc_error(error, service="inventory")
    if was_never_sent(error):
        return DependencyUnavailable("inventory does not answer", metadata={"service": "inventory"})
    return OutcomeUnknown()
