"""Passes the calls of all other methods on to the grpc.aio server behind, byte for byte.

Both sides are HTTP/2, so a call is a stream on either side. Flow control goes through: bytes of one
side are acknowledged when the other side has room for them, so neither piles up here.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from seckill.errors import (
    DeadlinePassed,
    DependencyUnavailable,
    InvalidField,
    Overloaded,
    SeckillError,
)
from seckill.front import statuses
from seckill.front.messages import WBITS, Inflater
from seckill.front.peers import PEER_METADATA, USER_AGENT_METADATA
from seckill.front.stream import Stream
from seckill.front.upstream import Debt, UpstreamConnection, acknowledge
from seckill.runtime.http2.engine import Code, EngineError, Headers, RequestReceived
from seckill.runtime.server import MESSAGE_BYTES_MAX
from seckill.runtime.streams import replica_stopping

if TYPE_CHECKING:
    from seckill.front.connection import ServerConnection


_PEER = PEER_METADATA.encode()
# What only the front may write.
_OUR_OWN = frozenset({_PEER, USER_AGENT_METADATA.encode()})


class PassedThrough:
    """What all relays share: the server behind, and what they may hold."""

    def __init__(self, path: str, *, streams_max: int, bytes_max: int) -> None:
        """`path`: the Unix socket of the server behind; the bounds are of all relays together."""
        self.path = path
        self._streams_max = streams_max
        self._bytes_max = bytes_max
        self._connection: UpstreamConnection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.relays = 0
        self.bytes = 0

    def open(
        self, connection: "ServerConnection", event: RequestReceived, named: Mapping[bytes, bytes]
    ) -> "Relay | None":
        """Pass a call on; None if it has been refused."""
        if not self.has_streams():
            refusal = statuses.failure(Overloaded("too many calls are open"))
            connection.answer(event.stream_id, refusal, whole=event.end_stream)
            return None
        relay = Relay(self, connection, event, named)
        try:
            relay.begin(self._upstream(), event)
        except EngineError:
            self.relays -= 1
            malformed = statuses.failure(InvalidField([("request", "has malformed metadata")]))
            connection.answer(event.stream_id, malformed, whole=event.end_stream)
            return None
        return relay

    def has_streams(self) -> bool:
        """Whether one more call may be open."""
        return self.relays < self._streams_max

    def has_room(self, size: int) -> bool:
        """Count bytes of requests; False if there is no room for them."""
        self.bytes += size
        return self.bytes <= self._bytes_max

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.hang_up()

    def _upstream(self) -> "UpstreamConnection":
        connection = self._connection
        if connection is None or not (connection.usable and connection.engine.can_send_request):
            connection = self._connection = UpstreamConnection()
            task = asyncio.create_task(self._connect(connection), name="front: connect behind")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return connection

    async def _connect(self, connection: "UpstreamConnection") -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, self.path)
        except OSError as error:
            connection.connection_lost(error)


class Relay(Stream):
    """One call that is passed on, and its answer that is passed back."""

    def __init__(
        self,
        shared: PassedThrough,
        connection: "ServerConnection",
        event: RequestReceived,
        named: Mapping[bytes, bytes],
    ) -> None:
        self._shared = shared
        self._connection = connection
        self.stream_id = event.stream_id
        self.opened_s = time.monotonic()
        self.whole = event.end_stream
        encoding = named.get(b"grpc-encoding", b"identity")
        # What is compressed is inflated here: the server behind would inflate without a bound.
        self._inflater = (
            Inflater(encoding, bytes_max=MESSAGE_BYTES_MAX) if encoding in WBITS else None
        )
        self._answering = False
        self._stops = False
        self._size = 0
        shared.relays += 1

    def begin(self, upstream: UpstreamConnection, event: RequestReceived) -> None:
        """Open the stream behind."""
        dropped = _OUR_OWN
        if self._inflater is not None:
            dropped = _OUR_OWN | {b"grpc-encoding", b"content-length"}
        headers = (
            *(field for field in event.headers if field[0] not in dropped),
            (_PEER, self._connection.peer.encode()),
        )
        self._upstream = upstream
        self._upstream_id = behind_id = upstream.send_request(self, headers, ends=event.end_stream)
        connection, stream_id = self._connection, self.stream_id
        before, behind = connection.engine, upstream.engine
        self._request_debt = Debt(
            upstream.owing,
            waiting=lambda: behind.queued_body_size(behind_id),
            acknowledge=lambda size: acknowledge(connection, stream_id, size),
        )
        self._answer_debt = Debt(
            connection.owing,
            waiting=lambda: before.queued_body_size(stream_id),
            acknowledge=lambda size: acknowledge(upstream, behind_id, size),
        )

    # -- the caller's side -----------------------------------------------------------------------

    def receive(self, data: bytes, *, ends: bool) -> None:
        self._request_debt.add(len(data))
        self._size += len(data)
        if not self._shared.has_room(len(data)):
            self._fail(Overloaded("too much is being sent"))
            return
        if self._inflater is not None:
            try:
                data = self._inflater.push(data)
            except SeckillError as error:
                self._fail(error)
                return
        with suppress(EngineError):
            if data or ends:
                self._upstream.engine.send_data(self._upstream_id, data, end_stream=ends)
        self._upstream.speak()
        if ends:
            self.whole = True
            self._connection.front.half_opened.pop(self, None)

    def close(self) -> None:
        self._leave_upstream()
        self._forget()

    def expire(self) -> None:
        # A method whose requests are a stream may be half open for as long as it answers.
        if not self._answering:
            self._fail(DeadlinePassed("the request did not arrive in time"))

    def stop(self, *, at_once: bool) -> None:
        if at_once or self._answering:
            self._fail(replica_stopping())
        else:
            self._stops = True

    # -- the side behind -------------------------------------------------------------------------

    def begin_answer(self, headers: Headers, *, ends: bool) -> None:
        """Pass the response's header fields back."""
        self._answering = True
        with suppress(EngineError):
            self._connection.engine.send_response(self.stream_id, headers, end_stream=ends)
        self._connection.answered()
        if ends:
            self._finish()

    def answer(self, data: bytes, *, ends: bool) -> None:
        """Pass a part of the response's body back."""
        self._answer_debt.add(len(data))
        with suppress(EngineError):
            self._connection.engine.send_data(self.stream_id, data, end_stream=ends)
        self._connection.answered()
        if ends:
            self._finish()
        elif self._stops:
            self._fail(replica_stopping())

    def end_answer(self, trailers: Headers) -> None:
        """Pass the response's trailing fields back."""
        with suppress(EngineError):
            self._connection.engine.send_trailers(self.stream_id, trailers)
        self._connection.answered()
        self._finish()

    def lose(self, code: int | None) -> None:
        """The stream behind has ended without an answer."""
        del code
        self._fail(DependencyUnavailable("the call was given up within the service"))

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, error: SeckillError) -> None:
        """Answer with a status, whatever has been answered so far."""
        connection = self._connection
        if self._answering:
            with suppress(EngineError):
                connection.engine.send_trailers(self.stream_id, statuses.trailers(error))
            connection.answered()
        else:
            connection.answer(self.stream_id, statuses.failure(error), whole=self.whole)
        self._leave_upstream()
        self._finish()

    def _finish(self) -> None:
        connection = self._connection
        if connection.streams.pop(self.stream_id, None) is None:
            return
        if self.whole:
            self._upstream.calls.pop(self._upstream_id, None)
        else:
            connection.cut(self.stream_id)
            self._leave_upstream()
        self._forget()

    def _leave_upstream(self) -> None:
        upstream = self._upstream
        if upstream.calls.pop(self._upstream_id, None) is not None:
            with suppress(EngineError):
                upstream.engine.reset_stream(self._upstream_id, Code.CANCEL)
            upstream.speak()

    def _forget(self) -> None:
        self._shared.relays -= 1
        self._shared.bytes -= self._size
        self._connection.front.half_opened.pop(self, None)
        # What the other side took of a call that is over is acknowledged all the same: it counts
        # against the window of all calls of its connection.
        for debt in (self._request_debt, self._answer_debt):
            debt.close()
