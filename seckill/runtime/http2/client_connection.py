"""Our end of a connection to a server: streams that we begin, and their answers."""

import asyncio
from contextlib import suppress
from typing import Protocol, cast

from seckill.runtime.http2.engine import (
    Code,
    ConnectionClosed,
    DataReceived,
    EngineError,
    Event,
    GoAwayReceived,
    Headers,
    ResponseReceived,
    StreamClosed,
    TrailersReceived,
    client_engine,
)


class Answered(Protocol):
    """Gets the answer of a call. What it is given of the body it acknowledges to the engine."""

    def begin_answer(self, headers: Headers, *, ends: bool) -> None:
        """The response's header fields have come."""

    def answer(self, data: bytes, *, ends: bool) -> None:
        """A part of the response's body has come."""

    def end_answer(self, trailers: Headers) -> None:
        """The response's trailing fields have come."""

    def lose(self, code: int | None) -> None:
        """The stream has ended without them.

        Args:
            code: by which it ended, REFUSED_STREAM if the server has surely not handled it;
                None: the connection has ended, and the server may have handled it.
        """


class ClientConnection(asyncio.Protocol):
    """Reads events, and writes what a turn has to say at once.

    Attributes:
        calls: by their streams.
        usable: it takes further calls.
    """

    def __init__(self) -> None:
        self.engine = client_engine()
        self.calls: dict[int, Answered] = {}
        self.usable = True
        self._transport: asyncio.Transport | None = None
        # Streams of which nothing has been given to the transport yet.
        self._unsent: list[int] = []
        self._dirty = False
        self._paused = False
        self._loop = asyncio.get_running_loop()

    # -- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self.engine.receive_data(data)
            events = self.engine.events()
        except EngineError:
            self.hang_up()
            return
        self._handle(events)
        # Most answers leave nothing to be said.
        if self.engine.want_write or not (self.usable and self.engine.want_read):
            self.speak()

    def _handle(self, events: list[Event]) -> None:
        calls = self.calls
        for event in events:
            if isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if call is None:
                    self.acknowledge(event.stream_id, len(event.data))
                else:
                    call.answer(event.data, ends=event.end_stream)
            elif isinstance(event, ResponseReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.begin_answer(event.headers, ends=event.end_stream)
            elif isinstance(event, TrailersReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.end_answer(event.headers)
            elif isinstance(event, StreamClosed):
                call = calls.pop(event.stream_id, None)
                if call is not None:
                    call.lose(event.error_code)
            else:
                self.handle_control(event)

    def handle_control(self, event: Event) -> None:
        """What is about the connection and not a call."""
        if isinstance(event, ConnectionClosed):
            self.usable = False
        elif isinstance(event, GoAwayReceived):
            self.usable = False
            # Those that wait for their turn with the library, too: it would tell of them too late.
            for stream_id in [other for other in self.calls if other > event.last_stream_id]:
                self.calls.pop(stream_id).lose(Code.REFUSED_STREAM)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.speak()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.usable = False
        unsent = set(self._unsent)
        calls = list(self.calls.items())
        self.calls.clear()
        for stream_id, call in calls:
            call.lose(Code.REFUSED_STREAM if stream_id in unsent else None)

    # -- calls -----------------------------------------------------------------------------------

    def send_request(self, call: Answered, headers: Headers, *, ends: bool = False) -> int:
        """Begin a call; returns its stream. Raises EngineError if the connection takes none."""
        stream_id = self.engine.send_request(headers, end_stream=ends)
        self.calls[stream_id] = call
        self._unsent.append(stream_id)
        self.speak()
        return stream_id

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Give bytes back to the window that they were sent through."""
        # A connection that ends with this stream has no window any more.
        with suppress(EngineError):
            self.engine.acknowledge_received_data(size, stream_id)

    def speak(self) -> None:
        """There is something to write: it is written at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self._loop.call_soon(self.flush)

    def flush(self) -> bool:
        """Write what there is to say; returns whether the transport has taken all of it."""
        self._dirty = False
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return False
        engine = self.engine
        try:
            out = engine.data_to_send()
            # Streams that the library ends itself, for what came on them, end as it says so.
            events = engine.events()
        except EngineError:
            self.hang_up()
            return False
        if out:
            transport.write(out)
            self._unsent.clear()
        if events:
            self._handle(events)
        if not (self.usable or self.calls) or not (engine.want_read or engine.want_write):
            transport.close()
        return True

    def hang_up(self) -> None:
        """Close the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
