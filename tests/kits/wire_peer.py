"""HTTP/2 by hand: a server that may break every rule, and notes what its clients send."""

import asyncio
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import hpack

from tests.kits.waiting import Signal
from tests.kits.wire import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Headers,
    frame,
)

ANSWER: Headers = ((":status", "200"), ("content-type", "application/grpc"))
OK: Headers = (("grpc-status", "0"),)


@dataclass
class Request:
    """What has come on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    whole: bool = False
    reset: int | None = None


class Peer:
    """One connection of a client. What it is told is up to the test."""

    def __init__(
        self, server: "PeerServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._decoder = hpack.Decoder()
        self.requests: dict[int, Request] = defaultdict(Request)
        # Streams of whole requests, in the order in which they came.
        self.order: list[int] = []
        self.ended = False

    async def send(self, *frames: bytes) -> None:
        """Send these bytes."""
        self._writer.write(b"".join(frames))
        with suppress(ConnectionError):
            await self._writer.drain()

    def headers(self, stream: int, fields: Headers, *, ends: bool = False) -> bytes:
        """A HEADERS frame; the table of header fields is left alone."""
        block = hpack.Encoder().encode([(name, value, True) for name, value in fields])
        return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)

    async def answer(self, stream: int, body: bytes, trailers: Headers = OK) -> None:
        """Answer as a server of gRPC does."""
        await self.send(
            self.headers(stream, ANSWER),
            frame(DATA, 0, stream, body),
            self.headers(stream, trailers, ends=True),
        )

    async def reset(self, stream: int, code: int) -> None:
        """End a stream with an error."""
        await self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    async def go_away(self, last: int, code: int = 0) -> None:
        """Say that no stream after `last` has been, or will be, handled."""
        await self.send(frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))

    def hang_up(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def read(self) -> None:
        """Note what comes, until the connection ends."""
        try:
            if await self._reader.readexactly(len(PREFACE)) != PREFACE:
                return
            while True:
                high, low, kind, flags, stream = FRAME.unpack(
                    await self._reader.readexactly(FRAME.size)
                )
                payload = await self._reader.readexactly((high << 8) + low)
                self._sort(kind, flags, stream, payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended = True
            self._server.changed.notify()

    def _sort(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        request = self.requests[stream]
        if kind == HEADERS:
            request.headers.update(
                {str(name): str(value) for name, value in self._decoder.decode(payload)}
            )
        elif kind == DATA:
            request.data += payload
            window = struct.pack(">I", len(payload))
            if payload and self._server.gives_back:
                self._writer.write(
                    frame(WINDOW_UPDATE, 0, 0, window) + frame(WINDOW_UPDATE, 0, stream, window)
                )
        elif kind == RST_STREAM:
            request.reset = int.from_bytes(payload)
        elif kind == SETTINGS and not flags & ACK and self._server.settings is not None:
            self._writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, payload))
        if kind in {HEADERS, DATA} and flags & END_STREAM:
            request.whole = True
            self.order.append(stream)
            self._server.begin(self, stream)
        self._server.changed.notify()


Handle = Callable[[Peer, int], Awaitable[None]]


class PeerServer:
    """Accepts connections, and has each whole request handled by the test.

    Attributes:
        peers: the connections that there have been.
        changed: something has come, or a connection has ended.
        gives_back: what comes is given back to the windows that it came through.
        settings: payload of the greeting; None sends none.
    """

    def __init__(self, handle: Handle, *, settings: bytes | None = b"") -> None:
        self.peers: list[Peer] = []
        self.changed = Signal()
        self.gives_back = True
        self.settings = settings
        self.port = 0
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, peer: Peer, stream: int) -> None:
        """Handle a request."""

        async def handle() -> None:
            await self._handle(peer, stream)

        self._spawn(handle())

    @property
    def handled(self) -> int:
        """Whole requests that have come, on all connections."""
        return sum(len(peer.order) for peer in self.peers)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        if self.settings is not None:
            await peer.send(frame(SETTINGS, 0, 0, self.settings))
        try:
            await peer.read()
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PeerServer"]:
        """Serve on a free port of this machine meanwhile."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for peer in self.peers:
                peer.hang_up()
            for task in list(self._tasks):
                task.cancel()
