"""One unary call on a connection, from its request to its answer."""

import asyncio
from contextlib import suppress

import grpc

from seckill.runtime.http2.answers import (
    PREFIX_BYTES,
    failed,
    of_beginning,
    of_reset,
    of_status,
    single_message,
)
from seckill.runtime.http2.client_connection import ClientConnection
from seckill.runtime.http2.engine import Code, EngineError, Headers

# Of one answer: what gRPC's channels accept by default.
ANSWER_BYTES_MAX = 4 * 1024 * 1024


class NotHandled(Exception):
    """The server has surely not handled the call: it may be sent elsewhere."""


class UnaryCall:
    """A request, and the future of its answer.

    Attributes:
        result: the answer's message; fails with AioRpcError, or with NotHandled.
    """

    __slots__ = ("_begun", "_body", "_connection", "_stream_id", "result")

    def __init__(self, connection: ClientConnection, headers: Headers, message: bytes) -> None:
        """Begin the call. Raises EngineError if the connection takes none."""
        self.result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._body = bytearray()
        self._begun = False
        self._stream_id = connection.send_request(self, headers)
        connection.engine.send_data(
            self._stream_id, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True
        )

    def expire(self) -> None:
        """The time for it is over."""
        self._fail(failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def leave(self) -> None:
        """Take no interest in it any more: end its stream, unless that has ended."""
        connection = self._connection
        if connection.calls.pop(self._stream_id, None) is not None:
            with suppress(EngineError):
                connection.engine.reset_stream(self._stream_id, Code.CANCEL)
            connection.speak()

    # -- the answer ------------------------------------------------------------------------------

    def begin_answer(self, headers: Headers, *, ends: bool) -> None:
        self._begun = True
        error = of_beginning(headers)
        if error is None and ends:
            # A status and nothing else: if it is OK the message is lacking.
            error = of_status(headers)
            if error is None:
                error = failed(grpc.StatusCode.INTERNAL, "answered without a message")
        if error is not None:
            self._fail(error)

    def answer(self, data: bytes, *, ends: bool) -> None:
        self._connection.acknowledge(self._stream_id, len(data))
        body = self._body
        body += data
        length = int.from_bytes(body[1:PREFIX_BYTES], "big")
        if max(len(body) - PREFIX_BYTES, length) > ANSWER_BYTES_MAX:
            large = f"answered with more than {ANSWER_BYTES_MAX} bytes"
            self._fail(failed(grpc.StatusCode.RESOURCE_EXHAUSTED, large))
        elif ends:
            self._fail(failed(grpc.StatusCode.UNKNOWN, "answered without a status"))

    def end_answer(self, trailers: Headers) -> None:
        error = of_status(trailers)
        if error is not None:
            self._fail(error)
            return
        try:
            message = single_message(self._body)
        except grpc.aio.AioRpcError as broken:
            self._fail(broken)
            return
        if not self.result.done():
            self.result.set_result(message)

    def lose(self, code: int | None) -> None:
        if self.result.done():
            # As all streams do, it ends after its answer.
            return
        if code is None:
            self._fail(failed(grpc.StatusCode.UNAVAILABLE, "the connection was lost"))
        elif code == Code.REFUSED_STREAM and not self._begun:
            self._fail(NotHandled())
        else:
            self._fail(of_reset(code))

    def _fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)
