"""Batches of calls whose work is given up: every caller gets an answer."""

import asyncio
from collections.abc import Sequence

from gateway.coalescing import Lane, Waiting
from gateway.front.batches import Batches
from gateway.front.call import Call, HotMethod
from seckill.errors import OutcomeUnknown, SeckillError

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


class Item(Waiting):
    """A call in a lane."""

    def __init__(self) -> None:
        self.call = NotedCall()

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
    """Nobody can tell whether anything was done."""

    async def handle(calls: Sequence[Call]) -> None:
        calls[0].respond(b"")
        await cancelled_within()

    calls = [NotedCall() for _ in range(3)]
    Batches(calls_max=10).start(HotMethod("/a/B", handle), calls, under_way=0)
    await answers(calls[:1])
    assert all(isinstance(error, OutcomeUnknown) for error in await answers(calls[1:]))


async def test_a_cancelled_sending_answers_its_batch_and_the_lane_goes_on() -> None:
    """The batch after it is sent by the same sender."""
    sent: list[int] = []

    async def send(batch: Sequence[Item], timeout_s: float) -> None:
        del timeout_s
        sent.append(len(batch))
        if len(sent) == 1:
            await cancelled_within()
        for item in batch:
            item.call.respond(b"")

    lane = Lane(
        send, stage="inventory", batch_max=2, under_way_max=1, waiting_max=10, timeout_s=TIMEOUT_S
    )
    items = [Item() for _ in range(4)]
    for item in items:
        lane.add(item)
    lane.kick()
    first, second, *others = await answers([item.call for item in items])
    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, OutcomeUnknown)
    assert others == [None, None]
    assert sent == [2, 2]
