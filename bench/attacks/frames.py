"""HTTP/2 by hand: an attacker keeps to no library's rules."""

import asyncio
import gzip
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Frame types and flags of RFC 9113, section 6.
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
WINDOW_BYTES = 2**31 - 1 - 65_535
# Another address than the honest buyer's, on loopback.
SOURCE = "127.0.0.66"
STREAM_LAST = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, section 4.1)."""
    length = len(payload)
    return struct.pack(">HBBBI", length >> 8, length & 0xFF, kind, flags, stream) + payload


def header_block(method: str, *fields: tuple[str, str]) -> bytes:
    """Return a HEADERS block of a gRPC call without an identity, for any stream and connection."""
    usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "gateway"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "1S"),
    ]
    # No literal is indexed, so the block does not depend on what was sent before.
    block: bytes = hpack.Encoder().encode([(*field, True) for field in [*usual, *fields]])
    return block


def message(payload: bytes, *, compressed: bool = False) -> bytes:
    """Return a message with gRPC's prefix; `compressed`: by gzip."""
    body = gzip.compress(payload) if compressed else payload
    return struct.pack(">BI", compressed, len(body)) + body


class Wire:
    """A connection that reads and forgets what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = -1
        self._reading = asyncio.create_task(self._read(), name="attacker reads")

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect from the attacker's address. Raises OSError."""
        host, _, port = address.rpartition(":")
        wire = cls(*await asyncio.open_connection(host, int(port), local_addr=(SOURCE, 0)))
        window = struct.pack(">HI", INITIAL_WINDOW_SIZE, 2**31 - 1)
        wire.send(
            PREFACE,
            frame(SETTINGS, 0, 0, window),
            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_BYTES)),
        )
        return wire

    @property
    def is_open(self) -> bool:
        """Whether the server still reads."""
        return not self._reading.done()

    async def until_closed(self) -> None:
        """Wait for the server to hang up."""
        await asyncio.wait([self._reading])

    def send(self, *frames: bytes) -> None:
        """Send frames, without waiting for the server."""
        self._writer.write(b"".join(frames))

    async def drained(self) -> None:
        """Wait until the server has taken most of what was sent."""
        with suppress(OSError):
            await self._writer.drain()

    def call(self, block: bytes, body: bytes, *, ends: bool = True) -> None:
        """Start a call; `ends`: with the whole request."""
        self._stream += 2
        flags = END_STREAM if ends else 0
        frames = [frame(HEADERS, END_HEADERS, self._stream, block)]
        parts = _parts(body)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            frames.append(frame(DATA, flags if last else 0, self._stream, part))
        self.send(*frames)

    def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        self._writer.close()

    async def _read(self) -> None:
        with suppress(OSError):
            while await self._reader.read(65_536):
                pass


def _parts(body: bytes) -> Sequence[bytes]:
    """Return a body cut to the size of frames."""
    return [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
