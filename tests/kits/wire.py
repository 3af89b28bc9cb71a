"""HTTP/2 by hand: a client that may break every rule, and understands what comes back."""

import asyncio
import ssl
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">HBBBI")
# Frame types and flags of RFC 9113, section 6.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
CONTINUATION = 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
ANSWER_S = 20.0

Headers = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, section 4.1)."""
    length = len(payload)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def message(payload: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A message with gRPC's prefix; `length`: what the prefix says in the place of the truth."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def setting(name: int, value: int) -> bytes:
    """The payload of a SETTINGS frame with one setting."""
    return struct.pack(">HI", name, value)


@dataclass
class Reply:
    """What has come back on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    reset: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def grpc_status(self) -> int | None:
        """The status; None if the stream was reset, or the answer is not gRPC's."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None


class Wire:
    """One connection. What it sends is up to the test; what comes back is sorted by stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = hpack.Decoder()
        self.replies: dict[int, Reply] = defaultdict(Reply)
        # The server has said GOAWAY, or has hung up.
        self.going_away = asyncio.Event()
        self.closed = asyncio.Event()

    async def send(self, *frames: bytes) -> None:
        """Send these bytes."""
        self._writer.write(b"".join(frames))
        with suppress(ConnectionError):
            await self._writer.drain()

    def headers(self, stream: int, fields: Headers, *, ends: bool = False) -> bytes:
        """A HEADERS frame; the table of header fields is left alone."""
        # A new encoder for each, whose literals are never indexed: frames can be left out.
        block = hpack.Encoder().encode([(name, value, True) for name, value in fields])
        return frame(HEADERS, END_HEADERS | (END_STREAM if ends else 0), stream, block)

    async def reply(self, stream: int) -> Reply:
        """The whole reply on a stream; or as far as it went if the connection has ended."""
        reply = self.replies[stream]
        waiting = [asyncio.create_task(event.wait()) for event in (reply.ended, self.closed)]
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        return reply

    async def until_closed(self) -> None:
        """Wait for the server to say that this connection has no future."""
        async with asyncio.timeout(ANSWER_S):
            await self.going_away.wait()

    async def read(self) -> None:
        """Sort what comes back, until the connection ends."""
        try:
            while True:
                high, low, kind, flags, stream = FRAME.unpack(
                    await self._reader.readexactly(FRAME.size)
                )
                payload = await self._reader.readexactly((high << 8) + low)
                self._sort(kind, flags, stream, payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.going_away.set()
            self.closed.set()

    def _sort(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        reply = self.replies[stream]
        if kind == HEADERS:
            reply.headers.update(
                {str(name): str(value) for name, value in self._decoder.decode(payload)}
            )
        elif kind == DATA:
            reply.data += payload
        elif kind == RST_STREAM:
            reply.reset = int.from_bytes(payload)
            reply.ended.set()
        elif kind == GOAWAY:
            self.going_away.set()
        elif kind == SETTINGS and not flags & ACK:
            self._writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, payload))
        if kind in {HEADERS, DATA} and flags & END_STREAM:
            reply.ended.set()


@asynccontextmanager
async def connected(
    port: int,
    *,
    settings: bytes = b"",
    greeting: bool = True,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Wire]:
    """A connection to a port of this machine.

    Args:
        settings: payload of our SETTINGS frame.
        greeting: send what each connection begins with.
        tls: None speaks in clear.
    """
    reader, writer = await asyncio.open_connection(
        "127.0.0.1" if tls is None else "localhost", port, ssl=tls
    )
    wire = Wire(reader, writer)
    reading = asyncio.create_task(wire.read(), name="wire")
    try:
        if greeting:
            await wire.send(PREFACE, frame(SETTINGS, 0, 0, settings))
        yield wire
    finally:
        writer.close()
        await reading
        with suppress(ConnectionError):
            await writer.wait_closed()
