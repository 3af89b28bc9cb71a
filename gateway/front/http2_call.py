"""A batched method's call over HTTP/2."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc

from gateway.front.call import REQUEST_BYTES_MAX
from gateway.front.queue import QueuedCall
from seckill.errors import DeadlinePassed, SeckillError
from seckill.front import statuses
from seckill.front.messages import PREFIX_BYTES, single_message, too_large
from seckill.front.stream import Stream
from seckill.runtime.http2.engine import RequestReceived
from seckill.runtime.streams import replica_stopping

if TYPE_CHECKING:
    from gateway.front.connection import CallerConnection

BODY_BYTES_MAX = PREFIX_BYTES + REQUEST_BYTES_MAX


class Http2Call(QueuedCall, Stream):
    """Named by its connection and its stream; its request stays bytes until it is handled."""

    __slots__ = (
        "_body",
        "_connection",
        "_encoding",
        "_headers",
        "_named",
        "opened_s",
        "stream_id",
        "whole",
    )

    def __init__(
        self,
        connection: "CallerConnection",
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        index: int,
    ) -> None:
        """`named`: the header fields by name, of several with one name the last."""
        self._connection = connection
        self._named = named
        # A dict of bytes costs the garbage collector nothing; a tuple of tuples does.
        self._headers = event.headers if len(event.headers) > len(named) else ()
        self._encoding = named.get(b"grpc-encoding")
        self._body = b""
        self.stream_id = event.stream_id
        self.index = index
        self.authorization = named.get(b"authorization")
        self.peer = connection.peer
        self.whole = False

    def metadata(self, key: str) -> str | None:
        name = key.encode()
        value = self._named.get(name)
        if value is not None and self._headers:
            value = b",".join(value for given, value in self._headers if given == name)
        return None if value is None else value.decode("latin-1")

    @property
    def traceparent(self) -> str | None:
        value = self._named.get(b"traceparent")
        if value is not None and self._headers:
            # Of several none counts.
            return self.metadata("traceparent")
        return None if value is None else value.decode("latin-1")

    def receive(self, data: bytes, *, ends: bool) -> None:
        connection = self._connection
        body = self._body
        if data:
            connection.engine.acknowledge_received_data(len(data), self.stream_id)
            self._body = body = body + data if body else data
        if len(body) > BODY_BYTES_MAX:
            self.fail(too_large(REQUEST_BYTES_MAX))
            connection.cut(self.stream_id)
        elif ends:
            self.whole = True
            front = connection.front
            front.half_opened.pop(self, None)
            front.queue.complete(self, len(body) + 1)

    def open(self) -> None:
        self.payload = single_message(self._body, self._encoding, bytes_max=REQUEST_BYTES_MAX)
        self._body = b""

    def respond(self, payload: bytes) -> None:
        connection = self._connection
        stream_id = self.stream_id
        if connection.streams.pop(stream_id, None) is None:
            return
        connection.respond(stream_id, payload)
        self._end(grpc.StatusCode.OK)

    def fail(self, error: SeckillError) -> None:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is None:
            return
        connection.answer(self.stream_id, statuses.failure(error), whole=self.whole)
        self._end(error.code)

    def close(self) -> None:
        self._end(grpc.StatusCode.CANCELLED, answered=False)

    def expire(self) -> None:
        self.fail(DeadlinePassed("the request did not arrive in time"))
        self._connection.cut(self.stream_id)

    def stop(self, *, at_once: bool) -> None:
        if at_once:
            self.fail(replica_stopping())

    def _end(self, code: grpc.StatusCode, *, answered: bool = True) -> None:
        front = self._connection.front
        self._body = b""
        if not self.whole:
            front.half_opened.pop(self, None)
        front.queue.leave(self, answered=answered)
        front.metrics.count(self, code)
