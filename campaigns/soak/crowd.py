"""The buyers of a campaign: each is a simulated buyer who does what the plan says."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence

import grpc

from campaigns.soak.arena import Arena
from campaigns.soak.faults import replicas
from campaigns.soak.plan import BuyerPlan
from seckill.client import Call, CallFailed, SeckillClient
from seckill.client.errors import call_failed
from seckill.v1 import order_pb2, order_pb2_grpc, sale_pb2
from seckill_cli.demo.buyer import Attempt, Buyer
from tests.kits.doors import DoorClient, InventoryDoor
from tests.kits.factories import PRICE
from tests.kits.faults.cluster import CHANNEL_OPTIONS
from tests.kits.faults.history import History, is_reserved

# How long a buyer repeats a call that was not answered; a fault lasts for less.
PATIENCE_S = 12.0
CALL_S = 2.0
PAUSE_S = 0.3
# Whom the shop's backend names when it states a payment.
PROVIDER = "soak"
_TOO_LATE, _MISMATCH = "PAYMENT_TOO_LATE", "PAYMENT_MISMATCH"
# Reasons of a payment that was stated.
_LATE, _ALREADY_PAID = "too_late", "already_paid"
# All calls are right and all services serve them: a service that says otherwise is wrong.
DEFECTS = frozenset(
    {"INTERNAL", "INVALID_FIELD", "NOT_IMPLEMENTED", "NOT_ALLOWED", "IDENTITY_MISSING"}
)


class Crowd:
    """Plays the buyers.

    Attributes:
        answers: results of all calls, by method and status.
        defects: answers that no service should have given, each in a sentence.
    """

    def __init__(
        self, arena: Arena, histories: Mapping[str, History], buyers: Sequence[BuyerPlan]
    ) -> None:
        """`histories`: by sku, in the order of the plan's sales."""
        self._arena = arena
        self._skus = list(histories)
        self._histories = histories
        self._buyers = buyers
        self._gateway = SeckillClient(
            arena.cluster.address("gateway"), options=CHANNEL_OPTIONS, on_call=self._note
        )
        channels = arena.channels
        self._inventory = DoorClient(
            InventoryDoor(
                [channels[replica] for replica in replicas("inventory")],
                [channels[replica] for replica in replicas("order")],
            )
        )
        self.answers: Counter[str] = Counter()
        self.defects: list[str] = []

    async def run(self) -> None:
        """Let all buyers come at their times; return when the last one has left."""
        async with self._gateway, self._inventory, asyncio.TaskGroup() as crowd:
            for plan in self._buyers:
                await asyncio.sleep(max(0.0, plan.at_s - self._arena.now_s))
                crowd.create_task(self._visit(plan))

    def _buyer(self, plan: BuyerPlan, *, door: str = "", hasty: bool = False) -> Buyer:
        """Return the buyer of a plan, at their own door by default.

        `hasty`: as they are at first, when they wait for `timeout_s` and do not repeat a call.
        """
        at_gateway = (door or plan.door) == "gateway"
        return Buyer(
            self._gateway if at_gateway else self._inventory,
            plan.name,
            self._arena.cluster.issuer.token(plan.name) if at_gateway else plan.name,
            patience_s=0.0 if hasty else PATIENCE_S,
            call_timeout_s=plan.timeout_s if hasty else CALL_S,
            on_attempt=self._histories[self._skus[plan.sale]].note,
            on_call=self._note,
        )

    async def _visit(self, plan: BuyerPlan) -> None:
        attempts = [self._attempt(plan, f"{plan.name}-first") for _ in range(plan.attempts)]
        first = await asyncio.gather(*attempts)
        order_no = next((attempt.order_no for attempt in first if is_reserved(attempt)), "")
        if order_no:
            await asyncio.sleep(plan.after_s)
            await self._follow(plan, order_no)
        if plan.comes_back:
            await self._attempt(plan, f"{plan.name}-second")
            # The very first request once more: its answer must not have changed.
            await self._attempt(plan, f"{plan.name}-first")

    async def _attempt(self, plan: BuyerPlan, request_id: str) -> Attempt:
        """Make one attempt; repeat it until it is answered if the buyer insists."""
        sku = self._skus[plan.sale]
        attempt = await self._buyer(plan, hasty=True).buy(sku, plan.quantity, request_id=request_id)
        if attempt.outcome is None and plan.manner == "insists":
            return await self._buyer(plan).buy(sku, plan.quantity, request_id=request_id)
        return attempt

    async def _follow(self, plan: BuyerPlan, order_no: str) -> None:
        """Pay or cancel the order; a buyer who ignores it does neither."""
        history = self._histories[self._skus[plan.sale]]
        amount = sale_pb2.Money(
            currency=PRICE.currency, minor_units=PRICE.minor_units * plan.quantity
        )
        wrong = sale_pb2.Money(currency=PRICE.currency, minor_units=amount.minor_units + 1)
        name = f"{plan.name}-payment"

        def pay(payment_id: str, paid: sale_pb2.Money = amount) -> Awaitable[None]:
            return self._pay(plan, history, order_no, payment_id, paid)

        def cancel() -> Awaitable[None]:
            return self._cancel(plan, history, order_no)

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
                await cancel()
            case "pays and cancels":
                await asyncio.gather(pay(name), cancel())
            case "is stated as paid again and again" | "is stated as paid late":
                await self._state(history, order_no, name, amount)

    async def _pay(
        self,
        plan: BuyerPlan,
        history: History,
        order_no: str,
        payment_id: str,
        amount: sale_pb2.Money,
    ) -> None:
        try:
            await self._buyer(plan).pay(amount, order_no=order_no, payment_id=payment_id)
        except CallFailed as failure:
            if failure.reason == _TOO_LATE:
                history.too_late[payment_id] = order_no
            elif failure.reason == _MISMATCH:
                history.mismatched.add(payment_id)
        else:
            history.paid[order_no] = payment_id

    async def _state(
        self, history: History, order_no: str, payment_id: str, amount: sale_pb2.Money
    ) -> None:
        """State a payment as the shop's backend does: at each replica, at once and once more."""
        request = order_pb2.ConfirmPaymentRequest(
            order_no=order_no, provider=PROVIDER, payment_id=payment_id, amount=amount
        )
        doors = replicas("order")
        fates = set(await asyncio.gather(*(self._confirm(door, request) for door in doors)))
        fates |= {await self._confirm(doors[0], request)}
        fates.discard("")
        # It is the only payment of its order: another one cannot have been faster.
        if len(fates) > 1 or _ALREADY_PAID in fates:
            self.defects.append(f"{payment_id} was given a wrong fate: {sorted(fates)}")
        if fates == {"OK"}:
            history.paid[order_no] = payment_id
        elif fates == {_LATE}:
            history.too_late[payment_id] = order_no

    async def _confirm(self, replica: str, request: order_pb2.ConfirmPaymentRequest) -> str:
        """Return the payment's fate, repeating the call while it has none; "" if it gets none."""
        stub = order_pb2_grpc.OrderServiceStub(self._arena.channels[replica])
        token = self._arena.cluster.issuer.token("shop", roles=("service",))
        metadata = (("authorization", f"Bearer {token}"),)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                await stub.ConfirmPayment(request, timeout=CALL_S, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                trailing = dict(error.trailing_metadata() or ())
                failure = call_failed(error.code(), error.details() or "", trailing)
                self._note_failure("ConfirmPayment", failure)
                if failure.reason in DEFECTS:
                    return failure.reason
                if failure.code is grpc.StatusCode.FAILED_PRECONDITION:
                    return failure.metadata.get("payment_reason", failure.reason)
                await asyncio.sleep(PAUSE_S)
            else:
                self.answers["ConfirmPayment: OK"] += 1
                return "OK"
        return ""

    async def _cancel(self, plan: BuyerPlan, history: History, order_no: str) -> None:
        try:
            await self._buyer(plan, door="gateway").cancel(order_no)
        except CallFailed:
            return
        history.cancelled.add(order_no)

    def _note(self, call: Call) -> None:
        failure = call.failure
        if failure is None:
            ended = "OK" if call.response is not None else "abandoned"
            self.answers[f"{call.method}: {ended}"] += 1
            return
        self._note_failure(call.method, failure)

    def _note_failure(self, method: str, failure: CallFailed) -> None:
        self.answers[f"{method}: {failure.code.name} {failure.reason}".strip()] += 1
        if failure.reason in DEFECTS:
            self.defects.append(f"{method} was answered {failure.reason}: {failure.message}")
