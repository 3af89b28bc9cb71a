"""Serves some unary methods, one call at a time, at a fraction of what grpc.aio takes for each.

What a handler raises, who may call, names, metrics and spans are as with the server that all
services have (seckill/runtime/server.py), which serves all other methods behind.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from seckill.errors import DeadlinePassed, Overloaded, SeckillError
from seckill.front import statuses
from seckill.front.connection import ServerConnection
from seckill.front.limits import FrontLimits
from seckill.front.listener import Counted, Listener
from seckill.front.messages import PREFIX_BYTES, single_message, too_large
from seckill.front.passthrough import PassedThrough
from seckill.front.stream import Stream
from seckill.runtime import request_ids, traceparent
from seckill.runtime.faults import fault_of, is_ended
from seckill.runtime.http2.engine import RequestReceived
from seckill.runtime.server import MESSAGE_BYTES_MAX, Deadline, decode_request
from seckill.runtime.server_spans import open_call
from seckill.runtime.streams import replica_stopping
from seckill.runtime.telemetry import MethodMetrics, server_metrics

# What names a call and its place in a trace.
_NAMES = (request_ids.HEADER, traceparent.HEADER)


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method that is served here.

    Attributes:
        path: "/package.Service/Method".
        request: what it is asked.
        handle: answers, or raises a SeckillError.
    """

    path: str
    request: type[Message]
    handle: Callable[[Any, Deadline], Awaitable[Message]]


class UnaryFront(Listener):
    """Gives each call of its methods a task."""

    def __init__(
        self,
        methods: Sequence[UnaryMethod],
        *,
        metrics: Counted,
        limits: FrontLimits,
        behind: PassedThrough,
    ) -> None:
        """`behind`: takes the calls of all methods but `methods`, and counts the bytes of all."""
        super().__init__(metrics=metrics, limits=limits, behind=behind)
        self._methods = {
            method.path.encode(): (method, server_metrics.method(method.path, streaming=False))
            for method in methods
        }

    def protocol(self) -> ServerConnection:
        return ServerConnection(self)

    def open(
        self,
        connection: ServerConnection,
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        timeout_s: float,
        now_s: float,
    ) -> Stream | None:
        path = named.get(b":path", b"")
        served = self._methods.get(path)
        if self.refuses_caller(connection, event, path):
            if served is not None:
                _count_unhandled(served[1], grpc.StatusCode.PERMISSION_DENIED)
            return None
        lacks_body = served is not None and event.end_stream
        wrong = (
            statuses.wrong_with(named, timeout_s, lacks_body=lacks_body)
            if statuses.is_grpc(named)
            else statuses.NOT_GRPC
        )
        if wrong:
            connection.answer(event.stream_id, wrong, whole=event.end_stream)
            return None
        if served is None:
            return self._behind.open(connection, event, named)
        call = UnaryCall(connection, self._behind, event.stream_id, named, *served)
        call.opened_s = now_s
        call.begin(timeout_s)
        return call


class UnaryCall(Stream):
    """One call, which tells its handler how much time is left."""

    __slots__ = (
        "_body",
        "_connection",
        "_deadline_s",
        "_method",
        "_metrics",
        "_named",
        "_shared",
        "_size",
        "_task",
        "_timer",
        "opened_s",
        "stream_id",
        "whole",
    )

    def __init__(
        self,
        connection: ServerConnection,
        shared: PassedThrough,
        stream_id: int,
        named: Mapping[bytes, bytes],
        method: UnaryMethod,
        metrics: MethodMetrics,
    ) -> None:
        """`shared`: counts the bytes of requests; `named`: the header fields by name."""
        self._connection = connection
        self._shared = shared
        self._named = named
        self._method = method
        self._metrics = metrics
        self._body = b""
        self._size = 0
        self._deadline_s = math.inf
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.stream_id = stream_id
        self.whole = False

    def begin(self, timeout_s: float) -> None:
        """Count the time from now on."""
        if timeout_s < math.inf:
            loop = asyncio.get_running_loop()
            self._deadline_s = loop.time() + timeout_s
            self._timer = loop.call_at(self._deadline_s, self._late)

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None without one."""
        if self._deadline_s == math.inf:
            return None
        return max(0.0, self._deadline_s - asyncio.get_running_loop().time())

    # -- the request -----------------------------------------------------------------------------

    def receive(self, data: bytes, *, ends: bool) -> None:
        connection = self._connection
        if data:
            connection.engine.acknowledge_received_data(len(data), self.stream_id)
            self._body = self._body + data if self._body else data
            self._size += len(data)
            if not self._shared.has_room(len(data)):
                self._break_off(Overloaded("too much is being sent"))
                return
        if len(self._body) > PREFIX_BYTES + MESSAGE_BYTES_MAX:
            self._break_off(too_large(MESSAGE_BYTES_MAX))
        elif ends:
            self.whole = True
            connection.front.half_opened.pop(self, None)
            self._task = asyncio.create_task(self._handle(), name=self._method.path)

    def close(self) -> None:
        self._forget()
        if self._task is not None:
            self._task.cancel()
        else:
            _count_unhandled(self._metrics, grpc.StatusCode.CANCELLED)

    def expire(self) -> None:
        self._break_off(DeadlinePassed("the request did not arrive in time"))

    def stop(self, *, at_once: bool) -> None:
        if at_once:
            self._break_off(replica_stopping())

    def _late(self) -> None:
        self._break_off(DeadlinePassed())

    def _break_off(self, error: SeckillError) -> None:
        """Answer before the handler has, and end what it does."""
        if self._fail(error) and not self.whole:
            self._connection.cut(self.stream_id)
        if self._task is not None:
            self._task.cancel()
        else:
            _count_unhandled(self._metrics, error.code)

    # -- the answer ------------------------------------------------------------------------------

    async def _handle(self) -> None:
        method, named = self._method, self._named
        names = [
            (name, value.decode("latin-1"))
            for name in _NAMES
            if (value := named.get(name.encode())) is not None
        ]
        request_ids.bind_from(names, passed_on=True)
        metrics = open_call(method.path, names, self._metrics)
        with metrics.call() as outcome:
            try:
                payload = single_message(
                    self._body, named.get(b"grpc-encoding"), bytes_max=MESSAGE_BYTES_MAX
                )
                request = decode_request(method.request.FromString, metrics, payload)
                response = await method.handle(request, self)
            except BaseException as error:
                if is_ended(error):
                    outcome.code = grpc.StatusCode.CANCELLED
                    raise
                fault = fault_of(error)
                outcome.code = fault.code
                self._fail(fault)
                return
            outcome.code = grpc.StatusCode.OK
            metrics.sent.inc()
            self._respond(response.SerializeToString())

    def _respond(self, payload: bytes) -> None:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is not None:
            self._forget()
            connection.respond(self.stream_id, payload)

    def _fail(self, error: SeckillError) -> bool:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is None:
            return False
        self._forget()
        connection.answer(self.stream_id, statuses.failure(error), whole=self.whole)
        return True

    def _forget(self) -> None:
        self._body = b""
        self._shared.bytes -= self._size
        self._size = 0
        self._connection.front.half_opened.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()


def _count_unhandled(metrics: MethodMetrics, code: grpc.StatusCode) -> None:
    metrics.batch_begun(1)
    metrics.batch_ended(code, 1, seconds=0.0)
