"""What the client does, step by step, without any I/O: both twins drive these generators.

A flow yields a step (a call, a watch or a pause), is sent what came of it, or has a CallFailed
thrown into it, and returns the result. It reads no clock and no randomness but its deadline's.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from seckill.client.errors import CallFailed, OutcomeUnknown, TryLater
from seckill.client.results import (
    FINAL_STATES,
    OUTCOME_OF_REASON,
    AgedOrder,
    Outcome,
    Purchase,
    outcome_of,
)
from seckill.client.retry import Deadline, is_transient
from seckill.v1 import challenge_pb2, gateway_pb2, order_pb2, sale_pb2

# How often an order is asked for while it cannot be watched, in seconds.
POLL_S = 0.5
PAGE_SIZE = 1_000
SKU_KEY = "seckill-sku"
TOKEN_EXPIRED = "PURCHASE_TOKEN_EXPIRED"  # noqa: S105 - a reason, not a secret
TOKEN_INVALID = "PURCHASE_TOKEN_INVALID"  # noqa: S105 - a reason, not a secret
# Challenges solved for one purchase token: one, and another if the first solution came too late.
SOLUTIONS_MAX = 3
# Statuses of the mesh itself say that nothing was bought, but for these.
_UNCERTAIN_REASONS = frozenset({"", "OUTCOME_UNKNOWN", "INTERNAL"})

T = TypeVar("T")
OrderTest: TypeAlias = Callable[[order_pb2.Order], bool]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Make a unary call; the flow is sent its response.

    Attributes:
        method: name of the method of GatewayService.
        timeout_s: longest time for it, in seconds.
        as_buyer: whether the call needs the buyer's identity.
        metadata: further metadata.
    """

    method: str
    request: Message
    timeout_s: float
    as_buyer: bool = True
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Watch an order; the flow is sent it once `until` holds, or None if the stream ends before."""

    request: gateway_pb2.GatewayServiceWatchOrderRequest
    until: OrderTest
    timeout_s: float


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds; the flow is sent None."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Solve a challenge; the flow is sent the solution, or None if there is none in time."""

    challenge: challenge_pb2.Challenge
    timeout_s: float


Step: TypeAlias = Ask | Watch | Pause | Solve
Flow: TypeAlias = Generator[Step, Any, T]


def resume(flow: Flow[T], reply: object) -> Step:
    """Return the flow's next step; `reply` is what came of the last one, None at the start.

    Raises:
        StopIteration: the flow is done; the value is its result.
        CallFailed: the flow gave up.
    """
    return flow.throw(reply) if isinstance(reply, CallFailed) else flow.send(reply)


def ask(deadline: Deadline, method: str, request: Message, *, as_buyer: bool = True) -> Flow[Any]:
    """Repeat an idempotent call until it is answered or the deadline has passed."""
    while True:
        step = Ask(
            method=method, request=request, timeout_s=deadline.attempt_s(), as_buyer=as_buyer
        )
        try:
            response = yield step
        except CallFailed as failure:
            yield Pause(deadline.pause_after(failure))
        else:
            return response


def buy(deadline: Deadline, sku: str, quantity: int, request_id: str) -> Flow[Purchase]:
    """Fetch a purchase token and send the purchase, under the same id until it is answered.

    Raises:
        OutcomeUnknown: it failed after a purchase had been sent that was not answered.
        CallFailed: it failed, and nothing was bought.
    """
    request = gateway_pb2.PurchaseRequest(sku=sku, quantity=quantity, request_id=request_id)
    unanswered = False
    renewals = 0
    try:
        while True:
            if not request.purchase_token:
                request.purchase_token = yield from _purchase_token(deadline, sku)
            try:
                answer: gateway_pb2.PurchaseResponse = yield Ask(
                    method="Purchase",
                    request=request,
                    timeout_s=deadline.attempt_s(),
                    metadata=((SKU_KEY, sku),),
                )
            except CallFailed as failure:
                outcome = OUTCOME_OF_REASON.get(failure.reason)
                if outcome is not None:
                    return _purchase(request, outcome)
                unanswered |= failure.reason in _UNCERTAIN_REASONS
                if _needs_token(failure, renewals):
                    request.purchase_token = ""
                    # Tokens that expire one after another are a busy mesh: no tight loop.
                    if renewals:
                        yield Pause(deadline.backoff_after(failure))
                    renewals += 1
                else:
                    yield Pause(deadline.pause_after(failure))
            else:
                return _purchase(request, outcome_of(answer.outcome), answer.order_no)
    except CallFailed as failure:
        if unanswered:
            raise OutcomeUnknown.after(failure, request_id=request_id) from failure
        raise


def _purchase_token(deadline: Deadline, sku: str) -> Flow[str]:
    """Ask for a purchase token; solve the challenges that the sale asks for."""
    request = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    solved = 0
    while True:
        try:
            answer: gateway_pb2.IssuePurchaseTokenResponse = yield from ask(
                deadline, "IssuePurchaseToken", request
            )
        except CallFailed as failure:
            if failure.challenge is None or solved == SOLUTIONS_MAX:
                raise
            solution: str | None = yield Solve(
                challenge=failure.challenge, timeout_s=deadline.left_s()
            )
            if not solution:
                raise
            request.challenge_solution = solution
            solved += 1
        else:
            return answer.purchase_token


def _needs_token(failure: CallFailed, renewals: int) -> bool:
    """Whether a new token helps: this one expired, or (once) its key was rotated away."""
    return failure.reason == TOKEN_EXPIRED or (failure.reason == TOKEN_INVALID and renewals == 0)


def _purchase(
    request: gateway_pb2.PurchaseRequest, outcome: Outcome, order_no: str = ""
) -> Purchase:
    return Purchase(
        outcome=outcome,
        order_no=order_no,
        request_id=request.request_id,
        sku=request.sku,
        quantity=request.quantity,
    )


def get_aged_order(deadline: Deadline, order_no: str) -> Flow[AgedOrder]:
    """Read one order of the buyer, and how old it is told to be; waits as `get_order` does."""
    request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=order_no)
    answer: gateway_pb2.GatewayServiceGetOrderResponse = yield from ask(
        deadline, "GetOrder", request
    )
    return AgedOrder(answer.order, answer.age.ToNanoseconds() / 1e9)


def get_order(deadline: Deadline, order_no: str) -> Flow[order_pb2.Order]:
    """Read one order of the buyer; one still on its way to the database is waited for."""
    return (yield from get_aged_order(deadline, order_no)).order


def wait(deadline: Deadline, order_no: str, until: OrderTest) -> Flow[order_pb2.Order]:
    """Read the order, then watch it; poll again if the watch ends before `until` holds.

    Raises:
        TryLater: `until` did not hold in time.
    """
    watch = gateway_pb2.GatewayServiceWatchOrderRequest(order_no=order_no)
    while True:
        order = yield from get_order(deadline, order_no)
        if until(order) or order.state in FINAL_STATES:
            return order
        failure: CallFailed | None = None
        try:
            seen: order_pb2.Order | None = yield Watch(
                request=watch, until=until, timeout_s=deadline.left_s()
            )
        except CallFailed as ended:
            failure = ended
        else:
            if seen is not None:
                return seen
        if failure is not None and not _polling_helps(failure):
            raise failure
        pause_s = deadline.spread(
            failure.retry_after_s if failure and failure.retry_after_s else POLL_S
        )
        if pause_s >= deadline.left_s():
            raise _still(order)
        yield Pause(pause_s)


def _polling_helps(failure: CallFailed) -> bool:
    return is_transient(failure) or failure.code is grpc.StatusCode.UNIMPLEMENTED


def _still(order: order_pb2.Order) -> TryLater:
    state = order_pb2.OrderState.Name(order.state).removeprefix("ORDER_STATE_").lower()
    return TryLater(
        f"order {order.order_no} is still {state}", code=grpc.StatusCode.DEADLINE_EXCEEDED
    )


def cancel(deadline: Deadline, order_no: str) -> Flow[order_pb2.Order]:
    """Give an unpaid order up."""
    request = gateway_pb2.GatewayServiceCancelOrderRequest(order_no=order_no)
    answer: gateway_pb2.GatewayServiceCancelOrderResponse = yield from ask(
        deadline, "CancelOrder", request
    )
    return answer.order


def pay(
    deadline: Deadline, order_no: str, payment_id: str, amount: sale_pb2.Money
) -> Flow[order_pb2.Order]:
    """Pay an order in the sandbox."""
    request = gateway_pb2.GatewayServicePayOrderRequest(
        order_no=order_no, payment_id=payment_id, amount=amount
    )
    answer: gateway_pb2.GatewayServicePayOrderResponse = yield from ask(
        deadline, "PayOrder", request
    )
    return answer.order


def sale(deadline: Deadline, sku: str) -> Flow[sale_pb2.Sale]:
    """Read one sale."""
    request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
    answer: gateway_pb2.GatewayServiceGetSaleResponse = yield from ask(
        deadline, "GetSale", request, as_buyer=False
    )
    return answer.sale


def sales(deadline: Deadline) -> Flow[list[sale_pb2.Sale]]:
    """Read all sales, page by page."""
    found: list[sale_pb2.Sale] = []
    request = gateway_pb2.GatewayServiceListSalesRequest(page_size=PAGE_SIZE)
    while True:
        page: gateway_pb2.GatewayServiceListSalesResponse = yield from ask(
            deadline, "ListSales", request, as_buyer=False
        )
        found.extend(page.sales)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
