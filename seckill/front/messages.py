"""gRPC's messages: a flag, a length and the bytes, compressed or not, and never larger than we say.

A kilobyte of gzip may stand for a megabyte of zeros, so nothing is inflated beyond its bound.
"""

import math
import zlib
from functools import lru_cache

from seckill.errors import InvalidField

PREFIX_BYTES = 5
# grpc-encoding → zlib's name of the container ("deflate" is zlib's, RFC 1950, in gRPC as in HTTP).
WBITS = {b"gzip": 31, b"deflate": 15}
ACCEPTED_ENCODINGS = b"identity,gzip,deflate"

# The units of grpc-timeout; its number has eight digits at most.
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT_BYTES_MAX = 9


def timeout_s(text: bytes | None) -> float:
    """Seconds that `grpc-timeout` names; infinity if it is missing, -1 where it is malformed."""
    if text is None:
        return math.inf
    # Looked at first: what is kept must be short.
    return _seconds(text) if len(text) <= TIMEOUT_BYTES_MAX else -1.0


@lru_cache(maxsize=4_096)
def _seconds(text: bytes) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_S or not number.isdigit():
        return -1.0
    return int(number) * _UNITS_S[unit]


def is_accepted(encoding: bytes | None) -> bool:
    """Whether we can read messages in this encoding."""
    return encoding is None or encoding == b"identity" or encoding in WBITS


class RequestTooLarge(InvalidField):
    """The request is too large."""


def too_large(bytes_max: int) -> RequestTooLarge:
    """What a caller whose request is too large is told."""
    return RequestTooLarge([("request", f"has more than {bytes_max} bytes")])


def _broken(problem: str) -> InvalidField:
    return InvalidField([("request", problem)])


def inflate(data: bytes, encoding: bytes | None, *, bytes_max: int) -> bytes:
    """The bytes that `data` stands for. Raises InvalidField if they are none, or too many."""
    wbits = WBITS.get(encoding or b"")
    if wbits is None:
        raise _broken("is compressed, and no grpc-encoding says how")
    inflater = zlib.decompressobj(wbits)
    try:
        inflated = inflater.decompress(data, bytes_max + 1)
    except zlib.error as error:
        raise _broken("cannot be decompressed") from error
    if len(inflated) > bytes_max:
        raise too_large(bytes_max)
    if not inflater.eof or inflater.unused_data:
        raise _broken("cannot be decompressed")
    return inflated


def single_message(body: bytes, encoding: bytes | None, *, bytes_max: int) -> bytes:
    """The one message of a unary request.

    Raises InvalidField if it is not one whole message, or has more than `bytes_max`.
    """
    flag = body[0] if body else 0
    length = int.from_bytes(body[1:PREFIX_BYTES], "big")
    if len(body) < PREFIX_BYTES or length != len(body) - PREFIX_BYTES or flag > 1:
        raise _broken("is not one whole message")
    if length > bytes_max:
        raise too_large(bytes_max)
    if flag:
        return inflate(body[PREFIX_BYTES:], encoding, bytes_max=bytes_max)
    return body[PREFIX_BYTES:]


class Inflater:
    """Turns a stream of messages, some of them compressed, into one of messages that are not."""

    def __init__(self, encoding: bytes, *, bytes_max: int) -> None:
        """`bytes_max`: of one message, compressed or not."""
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._left = bytearray()

    def push(self, data: bytes) -> bytes:
        """Take in bytes of the stream; returns the whole messages among them, inflated.

        Raises InvalidField if a message is broken or too large.
        """
        left = self._left
        left += data
        whole = bytearray()
        while len(left) >= PREFIX_BYTES:
            length = int.from_bytes(left[1:PREFIX_BYTES], "big")
            if length > self._bytes_max:
                raise too_large(self._bytes_max)
            end = PREFIX_BYTES + length
            if len(left) < end:
                break
            message = bytes(left[PREFIX_BYTES:end])
            if left[0]:
                message = inflate(message, self._encoding, bytes_max=self._bytes_max)
            whole += b"\0" + len(message).to_bytes(4, "big") + message
            del left[:end]
        return bytes(whole)
