"""A JSON call over HTTP/2: a stream of a connection that may carry gRPC as well."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.front.call import REQUEST_BYTES_MAX
from gateway.front.rest.answers import JSON, Answer, RequestTimeout, failure
from gateway.front.rest.exchange import Exchange, Handler
from seckill.errors import SeckillError
from seckill.front.messages import too_large
from seckill.front.stream import Stream
from seckill.runtime.http2.engine import EngineError, RequestReceived

if TYPE_CHECKING:
    from gateway.front.connection import CallerConnection


class Http2Exchange(Exchange, Stream):
    """Named by its connection and its stream."""

    __slots__ = ("_begun", "_body", "_connection", "opened_s", "stream_id", "whole")

    def __init__(
        self,
        connection: "CallerConnection",
        event: RequestReceived,
        named: Mapping[bytes, bytes],
        *,
        now_s: float,
    ) -> None:
        """`named`: the header fields by name, of several with one name the last."""
        if len(event.headers) > len(named):
            named = {
                name: b",".join(value for other, value in event.headers if other == name)
                for name in named
            }
        self._connection = connection
        self._body = b""
        self._begun = False
        self.body_bytes_max = REQUEST_BYTES_MAX
        self.handler: Handler | None = None
        self.named = named
        self.peer = connection.peer
        self.stream_id = event.stream_id
        self.opened_s = now_s
        self.whole = False

    # -- the stream ------------------------------------------------------------------------------

    def receive(self, data: bytes, *, ends: bool) -> None:
        if data:
            self._connection.engine.acknowledge_received_data(len(data), self.stream_id)
            self._body += data
        if len(self._body) > self.body_bytes_max:
            self._break_off(too_large(self.body_bytes_max))
        elif ends:
            self.whole = True
            self._connection.front.half_opened.pop(self, None)
            body, self._body = self._body, b""
            if self.handler is not None:
                self.handler.complete(body)

    def close(self) -> None:
        self._connection.front.half_opened.pop(self, None)
        handler, self.handler = self.handler, None
        if handler is not None:
            handler.leave()

    def expire(self) -> None:
        self._break_off(RequestTimeout("the request did not arrive in time"))

    def stop(self, *, at_once: bool) -> None:
        if self.handler is not None:
            self.handler.stop(at_once=at_once)

    def _break_off(self, error: SeckillError) -> None:
        if self.handler is not None:
            self.handler.fail(error)
        else:
            self.answer(failure(error))
        self._connection.cut(self.stream_id)

    # -- the answer ------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is None:
            return
        connection.front.half_opened.pop(self, None)
        # A stream that the caller has reset in the same breath needs no answer.
        with suppress(EngineError):
            head = (
                (b":status", b"%d" % answer.status),
                *answer.fields,
                (b"content-length", b"%d" % len(answer.body)),
            )
            connection.engine.send_response(self.stream_id, head)
            connection.engine.send_data(self.stream_id, answer.body, end_stream=True)
            if not self.whole:
                connection.answered_early(self.stream_id)
        connection.answered()

    def write(self, data: bytes) -> None:
        connection = self._connection
        with suppress(EngineError):
            if not self._begun:
                self._begun = True
                connection.engine.send_response(self.stream_id, ((b":status", b"200"), *JSON))
            connection.engine.send_data(self.stream_id, data)
        connection.answered()

    def finish(self) -> None:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is not None:
            with suppress(EngineError):
                connection.engine.send_data(self.stream_id, b"", end_stream=True)
            connection.answered()
