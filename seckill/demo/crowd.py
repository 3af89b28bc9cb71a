"""The buyers: each with an identity, a purchase token and a request id of his own, over gRPC."""

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc

from seckill.demo.scenario import Answer, Buyer, Scenario, Tally
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    order_pb2,
    sale_pb2,
)

CONNECTIONS = 8
CALL_TIMEOUT_S = 5.0
# A stage that was killed is back within a second or two; a buyer is patient for this long.
PATIENCE_S = 45.0
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
ORDER_POLL_S = 0.1
IN_FLIGHT_MAX = 2_000
# An identity needs a new purchase token a little before the ten seconds are over.
WORTH_RETRYING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)
OUTCOMES = {
    inventory_pb2.PURCHASE_OUTCOME_RESERVED: Answer.RESERVED,
    inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT: Answer.SOLD_OUT,
    inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED: Answer.ALREADY_PURCHASED,
}

T = TypeVar("T")


@asynccontextmanager
async def connect(target: str) -> AsyncIterator[list["gateway_pb2_grpc.GatewayServiceAsyncStub"]]:
    """Stubs over several connections, as a crowd has them."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CONNECTIONS)]
    try:
        yield [gateway_pb2_grpc.GatewayServiceStub(channel) for channel in channels]
    finally:
        for channel in channels:
            await channel.close()


class Crowd:
    """Plays the scenario against a gateway; every buyer keeps his own notes."""

    def __init__(
        self,
        stubs: "Sequence[gateway_pb2_grpc.GatewayServiceAsyncStub]",
        *,
        scenario: Scenario,
        sku: str,
        price: sale_pb2.Money,
        buyers: Sequence[Buyer],
        tally: Tally | None = None,
    ) -> None:
        """`tally`: what was counted of these buyers before; those refused wait for units."""
        self._stubs = itertools.cycle(stubs)
        self._scenario = scenario
        self._sku = sku
        self._price = price
        self.buyers = buyers
        self.tally = tally or Tally()
        self._winners = 0
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        # Refused buyers who wait for units that come back, first come first.
        self._waiting = deque(buyer for buyer in buyers if buyer.answer is Answer.SOLD_OUT)

    async def arrive(self) -> float:
        """Let everybody arrive and press; returns how many seconds that took."""
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as crowd:
            for buyer in self.buyers:
                await asyncio.sleep(max(0.0, begun_s + buyer.arrives_s - time.monotonic()))
                crowd.create_task(self._visit(buyer))
        return time.monotonic() - begun_s

    async def wait_for_units(self, *, until_paid: int, timeout_s: float) -> None:
        """Late buyers press whenever units are back, and pay, until enough are paid.

        After `timeout_s` the sale is left as it is: the verdict will say what is wrong.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.tally.paid < until_paid and self._waiting and time.monotonic() < deadline_s:
            remaining = await self._remaining_units()
            late = [self._waiting.popleft() for _ in range(min(remaining, len(self._waiting)))]
            for buyer in late:
                buyer.pays = True
            async with asyncio.TaskGroup() as group:
                for buyer in late:
                    group.create_task(self._visit(buyer))
            await asyncio.sleep(ORDER_POLL_S)

    async def knock_again(self, count: int) -> None:
        """Some refused buyers press once more when everything is paid, to be refused again."""
        async with asyncio.TaskGroup() as group:
            for buyer in itertools.islice(self._waiting, count):
                group.create_task(self._press(buyer, str(uuid.uuid4())))

    async def _remaining_units(self) -> int:
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=self._sku)
        answer = await self._patiently(lambda stub: stub.GetSale(request, timeout=CALL_TIMEOUT_S))
        return int(answer.sale.remaining_units)

    async def _visit(self, buyer: Buyer) -> None:
        async with self._slots:
            request_id = str(uuid.uuid4())
            await self._press(buyer, request_id)
            if buyer.presses_twice:
                buyer.presses_twice = False
                await self._press(buyer, str(uuid.uuid4()))
        if buyer.answer is Answer.SOLD_OUT:
            self._waiting.append(buyer)
        if buyer.order_no and not buyer.paid and buyer.pays:
            await self._pay(buyer)

    async def _press(self, buyer: Buyer, request_id: str) -> None:
        """One press of the button: the same request id until there is an answer."""
        buyer.request_ids.append(request_id)

        async def press(stub: "gateway_pb2_grpc.GatewayServiceAsyncStub") -> None:
            token = await stub.IssuePurchaseToken(
                gateway_pb2.IssuePurchaseTokenRequest(sku=self._sku),
                metadata=buyer.identity,
                timeout=CALL_TIMEOUT_S,
            )
            begun_s = time.perf_counter()
            answer = await stub.Purchase(
                gateway_pb2.PurchaseRequest(
                    sku=self._sku,
                    quantity=1,
                    purchase_token=token.purchase_token,
                    request_id=request_id,
                ),
                metadata=buyer.identity,
                timeout=CALL_TIMEOUT_S,
            )
            told = OUTCOMES.get(answer.outcome, Answer.OTHER)
            self.tally.note(told, time.perf_counter() - begun_s)
            if answer.order_no and not buyer.order_no:
                buyer.order_no = answer.order_no
                self._decide_payment(buyer)
            if not (buyer.answer is Answer.RESERVED and told is Answer.ALREADY_PURCHASED):
                buyer.answer = told

        try:
            await self._patiently(press)
        except grpc.aio.AioRpcError:
            buyer.answer = Answer.FAILED
            self.tally.note(Answer.FAILED, 0.0)

    def _decide_payment(self, buyer: Buyer) -> None:
        # Of each hundred winners the first sixty pay, spread evenly: exact for any stock.
        ratio = self._scenario.pay_ratio
        before, self._winners = int(self._winners * ratio + 1e-9), self._winners + 1
        buyer.pays = buyer.pays or int(self._winners * ratio + 1e-9) > before

    async def _pay(self, buyer: Buyer) -> None:
        request = gateway_pb2.GatewayServicePayOrderRequest(
            order_no=buyer.order_no, payment_id=f"pay-{buyer.order_no}", amount=self._price
        )
        await self._until_order_is_there(buyer)
        try:
            answer = await self._patiently(
                lambda stub: stub.PayOrder(request, metadata=buyer.identity, timeout=CALL_TIMEOUT_S)
            )
        except grpc.aio.AioRpcError as error:
            self.tally.errors[f"pay {error.code().name}"] += 1
            return
        if answer.order.state == order_pb2.ORDER_STATE_PAID:
            buyer.paid = True
            self.tally.paid += 1

    async def _until_order_is_there(self, buyer: Buyer) -> None:
        request = gateway_pb2.GatewayServiceGetOrderRequest(order_no=buyer.order_no)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                await self._patiently(
                    lambda stub: stub.GetOrder(
                        request, metadata=buyer.identity, timeout=CALL_TIMEOUT_S
                    )
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    return
                await asyncio.sleep(ORDER_POLL_S)
            else:
                return

    async def _patiently(
        self, call: "Callable[[gateway_pb2_grpc.GatewayServiceAsyncStub], Awaitable[T]]"
    ) -> T:
        """Repeat a call that may be repeated until it is answered or patience ends."""
        deadline_s = time.monotonic() + PATIENCE_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await call(next(self._stubs))
            except grpc.aio.AioRpcError as error:
                self.tally.errors[error.code().name] += 1
                if error.code() not in WORTH_RETRYING or time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
