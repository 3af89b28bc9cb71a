"""Our connection to the server behind, and what either side of a relay owes the other."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

from gateway.front.engine import (
    ConnectionClosed,
    DataReceived,
    EngineError,
    GoAwayReceived,
    ResponseReceived,
    StreamClosed,
    TrailersReceived,
    client_engine,
)
from gateway.front.stream import Owing

if TYPE_CHECKING:
    from gateway.front.connection import CallerConnection
    from gateway.front.statuses import Headers

# Bytes that may wait for one side before the other side has to wait too.
WAITING_BYTES_MAX = 65_536


class Answered(Protocol):
    """Gets the answer of a call that was passed on."""

    def begin_answer(self, headers: "Headers", *, ends: bool) -> None:
        """The response's header fields have come."""

    def answer(self, data: bytes, *, ends: bool) -> None:
        """A part of the response's body has come."""

    def end_answer(self, trailers: "Headers") -> None:
        """The response's trailing fields have come."""

    def lose(self) -> None:
        """The stream has ended without them."""


class UpstreamConnection(asyncio.Protocol):
    """Our connection to the server behind."""

    def __init__(self) -> None:
        self.engine = client_engine()
        self.relays: dict[int, Answered] = {}
        self.owing: set[Owing] = set()
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._dirty = False
        self._paused = False
        self._loop = asyncio.get_running_loop()

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
        for event in events:
            kind = type(event)
            if kind is GoAwayReceived or kind is ConnectionClosed:
                self.usable = False
            elif isinstance(event, ResponseReceived | TrailersReceived | DataReceived):
                relay = self.relays.get(event.stream_id)
                if relay is not None:
                    _pass_back(relay, event)
                elif isinstance(event, DataReceived):
                    self.engine.acknowledge_received_data(len(event.data), event.stream_id)
            elif isinstance(event, StreamClosed):
                relay = self.relays.pop(event.stream_id, None)
                if relay is not None:
                    relay.lose()
        self.speak()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.speak()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.usable = False
        relays = list(self.relays.values())
        self.relays.clear()
        for relay in relays:
            relay.lose()

    def speak(self) -> None:
        """There is something to write: it is written at the end of this turn."""
        if not self._dirty:
            self._dirty = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is to say."""
        self._dirty = False
        if self._transport is None or self._paused or self._transport.is_closing():
            return
        try:
            out = self.engine.data_to_send()
        except EngineError:
            self.hang_up()
            return
        if out:
            self._transport.write(out)
        for relay in list(self.owing):
            relay.settle()
        if not self.usable and not self.relays:
            self._transport.close()

    def hang_up(self) -> None:
        """Close the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


def _pass_back(relay: Answered, event: ResponseReceived | TrailersReceived | DataReceived) -> None:
    if isinstance(event, DataReceived):
        relay.answer(event.data, ends=event.end_stream)
    elif isinstance(event, TrailersReceived):
        relay.end_answer(event.headers)
    else:
        relay.begin_answer(event.headers, ends=event.end_stream)


class Debt:
    """Bytes of one side that are acknowledged when the other side's queue has room."""

    __slots__ = ("_acknowledge", "_owing", "_waiting", "owed")

    def __init__(
        self,
        owing: set[Owing],
        *,
        waiting: Callable[[], int],
        acknowledge: Callable[[int], None],
    ) -> None:
        """`owing`: of the connection that the bytes go to, which settles when it has written."""
        self._owing = owing
        self._waiting = waiting
        self._acknowledge = acknowledge
        self.owed = 0

    def add(self, size: int) -> None:
        if size:
            self.owed += size
            self._owing.add(self)

    def settle(self) -> None:
        with suppress(EngineError):
            if self._waiting() > WAITING_BYTES_MAX:
                return
        self.close()

    def close(self) -> None:
        """Acknowledge what is owed, as the call is over."""
        self._owing.discard(self)
        owed, self.owed = self.owed, 0
        if owed:
            with suppress(EngineError):
                self._acknowledge(owed)


def acknowledge(
    connection: "CallerConnection | UpstreamConnection", stream_id: int, size: int
) -> None:
    """Give bytes back to the window that they were sent through."""
    connection.engine.acknowledge_received_data(size, stream_id)
    connection.speak()
