"""Batches whose work is given up, or fails for one call: every caller gets the answer due."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from structlog.testing import capture_logs

from gateway.__main__ import build_batched_methods
from gateway.admission import Admission, Moment
from gateway.batching import BESIDE_ITEMS_MIN, Batcher, PendingItem
from gateway.front.batches import Batches
from gateway.front.call import BatchedMethod, Call
from gateway.handlers import BatchedMethods
from seckill.errors import OutcomeUnknown, SeckillError
from seckill.v1 import gateway_pb2
from tests.kits.factories import sale_terms
from tests.kits.gateway import open_rig

TIMEOUT_S = 10.0


class NotedCall(Call):
    """Remembers how it was answered."""

    __slots__ = ("answered", "error")

    def __init__(self) -> None:
        self.payload = b""
        self.peer = "ipv4:127.0.0.1:1"
        self.authorization = None
        self.deadline_s = float("inf")
        self.cancelled = False
        self.answered = asyncio.Event()
        self.error: SeckillError | None = None

    def metadata(self, key: str) -> str | None:
        del key
        return None

    def respond(self, payload: bytes) -> None:
        del payload
        self.answered.set()

    def fail(self, error: SeckillError) -> None:
        self.error = error
        self.answered.set()


class Item(PendingItem):
    """A call in a batcher."""

    def __init__(self) -> None:
        self.call: NotedCall = NotedCall()

    def fail(self, error: SeckillError) -> None:
        self.call.fail(error)


async def cancelled_within() -> None:
    """What a library does that cancels its own task and lets that out."""
    task = asyncio.create_task(asyncio.sleep(TIMEOUT_S))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def answers(calls: Sequence[Call]) -> list[SeckillError | None]:
    """How the calls ended, once all have."""
    noted = [call for call in calls if isinstance(call, NotedCall)]
    async with asyncio.timeout(TIMEOUT_S):
        for call in noted:
            await call.answered.wait()
    return [call.error for call in noted]


async def test_a_cancelled_batch_handler_answers_all_its_calls() -> None:
    """It is unknown whether anything was done."""

    async def handle(calls: Sequence[Call]) -> None:
        calls[0].respond(b"")
        await cancelled_within()

    calls = [NotedCall() for _ in range(3)]
    Batches().start(BatchedMethod("/a/B", handle), calls)
    await answers(calls[:1])
    assert all(isinstance(error, OutcomeUnknown) for error in await answers(calls[1:]))


async def test_a_cancelled_sending_answers_its_batch_and_the_batcher_goes_on() -> None:
    """The batch after it is sent by the same sender."""
    sent: list[int] = []

    async def send(batch: Sequence[Item], timeout_s: float) -> None:
        del timeout_s
        sent.append(len(batch))
        if len(sent) == 1:
            await cancelled_within()
        for item in batch:
            item.call.respond(b"")

    batcher = Batcher(
        send, service="inventory", batch_max=2, in_flight_max=1, waiting_max=10, timeout_s=TIMEOUT_S
    )
    items = [Item() for _ in range(4)]
    for item in items:
        batcher.add(item)
    batcher.flush()
    first, second, *others = await answers([item.call for item in items])
    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, OutcomeUnknown)
    assert others == [None, None]
    assert sent == [2, 2]


async def test_an_item_that_comes_as_the_last_sender_ends_is_sent() -> None:
    """It finds all senders in flight, and none of them looks at the queue again."""
    second = Item()

    def come() -> None:
        batcher.add(second)
        batcher.flush()

    async def send(batch: Sequence[Item], timeout_s: float) -> None:
        del timeout_s
        if batch != [second]:
            # In the turn of the loop after this one, in which the sender ends.
            asyncio.get_running_loop().call_soon(come)
        for item in batch:
            item.call.respond(b"")

    batcher = Batcher(
        send, service="inventory", batch_max=2, in_flight_max=1, waiting_max=10, timeout_s=TIMEOUT_S
    )
    first = Item()
    batcher.add(first)
    batcher.flush()
    assert await answers([first.call, second.call]) == [None, None]


class Inventory:
    """Answers a batch when it is let; notes how large the batches are."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.arrived = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, batch: Sequence[Item], timeout_s: float) -> None:
        del timeout_s
        self.sizes.append(len(batch))
        self.arrived.set()
        await self.may_answer.wait()
        for item in batch:
            item.call.respond(b"")


async def batcher_with_one_in_flight(inventory: Inventory) -> tuple[Batcher[Item], Item]:
    """A batcher that may have two, whose first batch is on its way."""
    batcher = Batcher(
        inventory,
        service="inventory",
        batch_max=512,
        in_flight_max=2,
        waiting_max=1_000,
        timeout_s=TIMEOUT_S,
    )
    first = Item()
    batcher.add(first)
    batcher.flush()
    async with asyncio.timeout(TIMEOUT_S):
        await inventory.arrived.wait()
    inventory.arrived.clear()
    return batcher, first


async def test_few_items_wait_for_the_batch_in_flight_and_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each one alone beside it would cost inventory as much as all of them."""
    monkeypatch.setattr("gateway.batching.BESIDE_WAIT_S", TIMEOUT_S)
    inventory = Inventory()
    batcher, first = await batcher_with_one_in_flight(inventory)
    items = [first]
    for _ in range(BESIDE_ITEMS_MIN - 1):
        items.append(Item())
        batcher.add(items[-1])
        batcher.flush()
    inventory.may_answer.set()
    assert await answers([item.call for item in items]) == [None] * len(items)
    assert inventory.sizes == [1, BESIDE_ITEMS_MIN - 1]


async def test_many_items_go_beside_the_batch_in_flight() -> None:
    """A full batch does not wait for the answer to the one before it."""
    inventory = Inventory()
    batcher, _ = await batcher_with_one_in_flight(inventory)
    for _ in range(BESIDE_ITEMS_MIN):
        batcher.add(Item())
    batcher.flush()
    async with asyncio.timeout(TIMEOUT_S):
        await inventory.arrived.wait()
    assert inventory.sizes == [1, BESIDE_ITEMS_MIN]
    inventory.may_answer.set()


async def test_a_batch_in_flight_that_is_slow_holds_nothing_back() -> None:
    """A single item goes beside it soon, without another call that would flush it."""
    inventory = Inventory()
    batcher, _ = await batcher_with_one_in_flight(inventory)
    batcher.add(Item())
    batcher.flush()
    async with asyncio.timeout(TIMEOUT_S):
        await inventory.arrived.wait()
    assert inventory.sizes == [1, 1]
    inventory.may_answer.set()


class OwnCall(NotedCall):
    """A buyer's call of a batched method."""

    __slots__ = ("_request_id",)

    def __init__(self, request: Message, *, authorization: str, request_id: str) -> None:
        super().__init__()
        self.payload = request.SerializeToString()
        self.authorization = authorization.encode()
        self._request_id = request_id

    def metadata(self, key: str) -> str | None:
        return self._request_id if key == "x-request-id" else None


@pytest.mark.parametrize("announced", [True, False], ids=["first try", "second try"])
async def test_an_unexpected_exception_fails_its_call_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    """Of each batched method; the others of its batch are answered as if it had not been there."""
    built: list[BatchedMethods] = []

    def build(*given: Any, **named: Any) -> BatchedMethods:
        built.append(build_batched_methods(*given, **named))
        return built[0]

    def charge(_self: Admission, call: Call, _moment: Moment) -> None:
        if call.request_id() == "planted-bug":
            raise ZeroDivisionError

    monkeypatch.setattr("gateway.__main__.build_batched_methods", build)
    monkeypatch.setattr(Admission, "charge_client", charge)
    monkeypatch.setattr(Admission, "charge_order_call", charge)
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, "http2")
        known = rig.services.inventory.put(sale_terms(units=100))
        token = await rig.token(known, "buyer")
        for method in built[0].methods():
            # A sale that the gateway has not heard of is asked for, and the call is tried again.
            sku = rig.services.inventory.put(sale_terms(units=100), announce=announced)
            requests: dict[str, Message] = {
                "Purchase": gateway_pb2.PurchaseRequest(
                    sku=sku, request_id="r", purchase_token=token
                ),
                "IssuePurchaseToken": gateway_pb2.IssuePurchaseTokenRequest(sku=sku),
                "GetOrder": gateway_pb2.GatewayServiceGetOrderRequest(order_no="0" * 26),
                "GetSale": gateway_pb2.GatewayServiceGetSaleRequest(sku=sku),
            }
            ((_, authorization),) = rig.identity("buyer")
            calls = [
                OwnCall(
                    requests[method.path.rpartition("/")[2]],
                    authorization=authorization,
                    request_id=request_id,
                )
                for request_id in ("call-one", "planted-bug", "call-three")
            ]
            await method.handle(calls)
            first, planted, third = await answers(calls)
            assert type(planted) is SeckillError, method.path
            assert planted.metadata == {"request-id": "planted-bug"}
            assert type(first) is type(third) is not SeckillError, method.path


async def test_a_failed_batch_is_named_in_the_log_with_its_calls() -> None:
    """One call gives the batch its id; of more, the batch has its own, and the line theirs."""

    async def send(batch: Sequence[Item], timeout_s: float) -> None:
        del batch, timeout_s
        raise OutcomeUnknown

    batcher = Batcher(
        send, service="inventory", batch_max=2, in_flight_max=1, waiting_max=10, timeout_s=TIMEOUT_S
    )
    items = [Item() for _ in range(3)]
    for index, item in enumerate(items):
        item.call = OwnCall(
            gateway_pb2.PurchaseRequest(), authorization="", request_id=f"call-000{index}"
        )
        batcher.add(item)
    with capture_logs() as lines:
        batcher.flush()
        told = await answers([item.call for item in items])
    of_two, of_one = [line for line in lines if line["event"] == "call failed"]
    assert of_two["ids"] == ["call-0000", "call-0001"]
    assert of_one["request_id"] == "call-0002"
    ids = [error.metadata["request-id"] for error in told if error]
    assert ids == [of_two["request_id"], of_two["request_id"], "call-0002"]
