"""The buyers of a campaign: each does what the plan says, and notes what he was told."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import grpc

from seckill.errors import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, order_pb2, order_pb2_grpc, sale_pb2
from tests.factories import PRICE
from tests.faults.buyers import Door, GatewayDoor, InventoryDoor
from tests.faults.history import Attempt, End, History
from tests.soak.arena import Arena
from tests.soak.faults import replicas
from tests.soak.plan import BuyerPlan

# How long a buyer repeats what was not answered; a fault lasts for less.
PATIENCE_S = 12.0
PAUSE_S = 0.2
CALL_S = 2.0
# What says that the call should be made again; whatever else is an answer.
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        # Not here yet; and what gRPC itself says of a connection that broke.
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
_TOO_LATE, _MISMATCH = "PAYMENT_TOO_LATE", "PAYMENT_MISMATCH"
# All calls are right and all stages serve them: whoever says otherwise is wrong.
DEFECTS = frozenset({"INTERNAL", "INVALID_FIELD", "NOT_IMPLEMENTED", "NOT_ALLOWED"})

T = TypeVar("T")


class Crowd:
    """Plays the buyers.

    Attributes:
        answers: what became of all calls, by method and status or outcome.
        defects: answers that no stage should have given, each in a sentence.
    """

    def __init__(
        self, arena: Arena, histories: Mapping[str, History], buyers: Sequence[BuyerPlan]
    ) -> None:
        """`histories`: by sku, in the order of the plan's sales."""
        self._arena = arena
        self._skus = list(histories)
        self._histories = histories
        self._buyers = buyers
        to_gateway = arena.channels["gateway"]
        self._doors: Mapping[str, Door] = {
            "gateway": GatewayDoor(to_gateway, arena.line),
            "inventory": InventoryDoor([arena.channels[one] for one in replicas("inventory")]),
        }
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(to_gateway)
        self._orders = [
            order_pb2_grpc.OrderServiceStub(arena.channels[replica])
            for replica in ("order", "order/b")
        ]
        self.answers: Counter[str] = Counter()
        self.defects: list[str] = []

    async def run(self) -> None:
        """Let everybody come; returns when the last one has left."""
        async with asyncio.TaskGroup() as crowd:
            for plan in self._buyers:
                await asyncio.sleep(max(0.0, plan.at_s - self._arena.now_s))
                crowd.create_task(self._visit(plan))

    async def _visit(self, plan: BuyerPlan) -> None:
        sku = self._skus[plan.sale]
        presses = [self._press(sku, plan, f"{plan.name}-first") for _ in range(plan.presses)]
        order_no = next((a.order_no for a in await asyncio.gather(*presses) if a.reserved), "")
        if order_no:
            await asyncio.sleep(plan.after_s)
            await self._follow(sku, plan, order_no)
        if plan.comes_back:
            await self._press(sku, plan, f"{plan.name}-second")
            # The very first request once more: its answer must not have changed.
            await self._press(sku, plan, f"{plan.name}-first")

    async def _press(self, sku: str, plan: BuyerPlan, request_id: str) -> Attempt:
        """Press until there is an answer, or just once, as the buyer's manner is."""
        history, door = self._histories[sku], self._doors[plan.door]
        deadline_s = time.monotonic() + (PATIENCE_S if plan.manner == "insists" else 0.0)
        timeout_s = plan.timeout_s
        while True:
            attempt = history.invoke(plan.name, request_id, quantity=plan.quantity)
            try:
                attempt.answered(*await door.press(sku, attempt, timeout_s=timeout_s))
            except grpc.aio.AioRpcError as error:
                attempt.refused(error)
                self._note("press", error)
            except asyncio.CancelledError:
                attempt.end = End.UNKNOWN
                raise
            if attempt.end is End.OK or time.monotonic() > deadline_s:
                return attempt
            # Whoever was in a hurry learns to wait.
            timeout_s = CALL_S
            await asyncio.sleep(PAUSE_S)

    def _note(self, what: str, error: grpc.aio.AioRpcError) -> None:
        reason = reason_of(error)
        self.answers[f"{what}: {error.code().name} {reason or ''}".strip()] += 1
        if reason in DEFECTS:
            self.defects.append(f"{what} was answered {reason}: {error.details()}")

    async def _follow(self, sku: str, plan: BuyerPlan, order_no: str) -> None:
        """Pay, give up or forget the order."""
        amount = sale_pb2.Money(
            currency=PRICE.currency, minor_units=PRICE.minor_units * plan.quantity
        )
        wrong = sale_pb2.Money(currency=PRICE.currency, minor_units=amount.minor_units + 1)
        name = f"{plan.name}-payment"

        def pay(payment_id: str, paid: sale_pb2.Money = amount) -> Awaitable[None]:
            return self._pay(sku, plan, order_no, payment_id, paid)

        match plan.intent:
            case "pays" | "pays late":
                await pay(name)
            case "pays twice":
                await asyncio.gather(pay(name), pay(name))
                await pay(name)
            case "pays with two payments":
                await asyncio.gather(pay(name), pay(f"{name}-b"))
            case "pays the wrong amount":
                await pay(f"{name}-wrong", wrong)
            case "cancels":
                await self._cancel(sku, plan, order_no)
            case "pays and cancels":
                await asyncio.gather(pay(name), self._cancel(sku, plan, order_no))
            case "ignores":
                pass

    async def _pay(
        self, sku: str, plan: BuyerPlan, order_no: str, payment_id: str, amount: sale_pb2.Money
    ) -> None:
        history = self._histories[sku]

        async def call() -> None:
            if plan.door == "gateway":
                request = gateway_pb2.GatewayServicePayOrderRequest(
                    order_no=order_no, payment_id=payment_id, amount=amount
                )
                await self._gateway.PayOrder(request, metadata=self._identity(plan), timeout=CALL_S)
                return
            # A payment service speaks for all buyers.
            notice = order_pb2.PayOrderRequest(
                order_no=order_no, payment_id=payment_id, amount=amount
            )
            await self._orders[len(plan.name) % 2].PayOrder(notice, timeout=CALL_S)

        error = await self._insist("pay", call)
        if error is None:
            history.paid[order_no] = payment_id
        elif reason_of(error) == _TOO_LATE:
            history.too_late[payment_id] = order_no
        elif reason_of(error) == _MISMATCH:
            history.mismatched.add(payment_id)

    async def _cancel(self, sku: str, plan: BuyerPlan, order_no: str) -> None:
        request = gateway_pb2.GatewayServiceCancelOrderRequest(order_no=order_no)

        async def call() -> None:
            await self._gateway.CancelOrder(request, metadata=self._identity(plan), timeout=CALL_S)

        if await self._insist("cancel", call) is None:
            self._histories[sku].cancelled.add(order_no)

    def _identity(self, plan: BuyerPlan) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._arena.line.issuer.token(plan.name)}"),)

    async def _insist(
        self, what: str, call: Callable[[], Awaitable[None]]
    ) -> grpc.aio.AioRpcError | None:
        """Call until it is answered or patience ends; returns what was said last, None for OK."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                self._note(what, error)
                if error.code() not in _AGAIN or time.monotonic() > deadline_s:
                    return error
            else:
                self.answers[f"{what}: OK"] += 1
                return None
            await asyncio.sleep(PAUSE_S)
