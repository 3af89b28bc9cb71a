"""Buyers who press against a door and note what they saw."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import grpc

from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, inventory_pb2_grpc
from tests.factories import new_id
from tests.faults.history import Attempt, End, History, Outcome
from tests.faults.line import Line

Answer: TypeAlias = tuple[Outcome.ValueType, str]
CALL_S = 2.0
PATIENCE_S = 40.0
PAUSE_S = 0.1


class Door(Protocol):
    """Where one presses."""

    async def press(self, sku: str, attempt: Attempt, *, timeout_s: float) -> Answer:
        """(outcome, order number); raises AioRpcError."""


class InventoryDoor:
    """Straight to inventory_svc, as another backend would; its replicas in turn."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        self._stubs = [inventory_pb2_grpc.InventoryServiceStub(channel) for channel in channels]
        self._turn = 0

    async def press(self, sku: str, attempt: Attempt, *, timeout_s: float) -> Answer:
        """One Reserve."""
        self._turn += 1
        answer = await self._stubs[self._turn % len(self._stubs)].Reserve(
            inventory_pb2.ReserveRequest(
                sku=sku,
                item=inventory_pb2.ReserveItem(
                    user_id=attempt.user_id,
                    request_id=attempt.request_id,
                    quantity=attempt.quantity,
                ),
            ),
            timeout=timeout_s,
        )
        return answer.result.outcome, answer.result.order_no


class GatewayDoor:
    """Through the gateway, with an identity and a purchase token."""

    def __init__(self, channel: grpc.aio.Channel, line: Line) -> None:
        self._stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._line = line

    async def press(self, sku: str, attempt: Attempt, *, timeout_s: float) -> Answer:
        """IssuePurchaseToken, then Purchase."""
        identity = (("authorization", f"Bearer {self._line.issuer.token(attempt.user_id)}"),)
        token = await self._stub.IssuePurchaseToken(
            gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=identity, timeout=timeout_s
        )
        answer = await self._stub.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku,
                quantity=attempt.quantity,
                purchase_token=token.purchase_token,
                request_id=attempt.request_id,
            ),
            metadata=identity,
            timeout=timeout_s,
        )
        return answer.outcome, answer.order_no


class Buyers:
    """Press for one sale; the history has a note of each attempt."""

    def __init__(self, door: Door, sku: str, *, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: how long a buyer repeats a request that was not answered."""
        self.history = History()
        self._door = door
        self._sku = sku
        self._patience_s = patience_s

    async def press(
        self, user_id: str = "", *, request_id: str = "", timeout_s: float = CALL_S
    ) -> Attempt:
        """One attempt, not repeated, by somebody new unless told otherwise."""
        attempt = self.history.invoke(user_id or new_id("buyer"), request_id or new_id("request"))
        try:
            answer = await self._door.press(self._sku, attempt, timeout_s=timeout_s)
        except grpc.aio.AioRpcError as error:
            attempt.refused(error)
        except asyncio.CancelledError:
            attempt.end = End.UNKNOWN
            raise
        else:
            attempt.answered(*answer)
        return attempt

    async def insist(self, user_id: str = "", *, request_id: str = "") -> Attempt:
        """The same request again and again until it is answered or patience ends."""
        user_id, request_id = user_id or new_id("buyer"), request_id or new_id("request")
        deadline_s = time.monotonic() + self._patience_s
        while True:
            attempt = await self.press(user_id, request_id=request_id)
            if attempt.end is End.OK or time.monotonic() > deadline_s:
                return attempt
            await asyncio.sleep(PAUSE_S)

    async def arrive(
        self, count: int, *, every_s: float = 0.0, users: Iterable[str] = ()
    ) -> list[Attempt]:
        """`count` buyers who insist, one each `every_s` seconds; their last attempts."""
        names = list(users) or [new_id("buyer") for _ in range(count)]
        async with asyncio.TaskGroup() as crowd:
            tasks = []
            for name in names:
                tasks.append(crowd.create_task(self.insist(name)))
                await asyncio.sleep(every_s)
        return [task.result() for task in tasks]
