"""Whether a call in JSON is let in, by the deadline that its caller names or does not name."""

import time
from collections.abc import Sequence

import pytest

from gateway.front.call import BatchedMethod, Call
from gateway.front.front_metrics import FrontMetrics
from gateway.front.load import TICK_S, TimedAdmission
from gateway.front.queue import CallQueue
from gateway.front.rest.answers import Answer
from gateway.front.rest.door import JsonDoor
from gateway.front.rest.exchange import Exchange
from seckill.front.passthrough import PassedThrough

PATH = "/seckill.v1.GatewayService/Purchase"
RATE_PER_S = 1_000


class NotedExchange(Exchange):
    """Keeps its answer."""

    __slots__ = ("status",)

    def __init__(self, named: dict[bytes, bytes]) -> None:
        self.peer = "ipv4:127.0.0.1:1"
        self.named = named
        self.handler = None
        self.status = 0

    def answer(self, answer: Answer) -> None:
        self.status = answer.status

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError


async def unanswered(calls: Sequence[Call]) -> None:
    """Leave the calls as they are."""
    del calls


def loaded_door(wait_s: float) -> JsonDoor:
    """A door at which a call that comes now would wait for so long."""
    admission = TimedAdmission(calls_max=10_000, wait_share=0.3, wait_max_s=2.0, ahead_s=0.1)
    admission.in_flight = int(wait_s * RATE_PER_S)
    for tick in range(60):
        admission.answered = int(tick * TICK_S * RATE_PER_S)
        admission.tick(tick * TICK_S)
    methods = [BatchedMethod(PATH, unanswered)]
    return JsonDoor(
        methods,
        queue=CallQueue(methods, admission),
        metrics=FrontMetrics(methods, clock=time.monotonic),
        behind=PassedThrough("", streams_max=1, bytes_max=1),
    )


@pytest.mark.parametrize(
    ("wait_s", "named", "status"),
    [(0.2, b"", 0), (0.5, b"", 429), (0.5, b"10S", 0), (0.5, b"1S", 429)],
)
async def test_who_names_no_deadline_is_let_in_as_if_it_were_a_second(
    wait_s: float, named: bytes, status: int
) -> None:
    """Half a second is too long a wait then; who says that they have ten may wait."""
    exchange = NotedExchange({b"grpc-timeout": named} if named else {})
    door = loaded_door(wait_s)
    door.open(exchange, method="POST", url=PATH, caller=None, now_s=0.0)
    assert exchange.status == status
    assert (exchange.handler is not None) == (status == 0)
