"""Refuses calls on the surface of the frames, before the HTTP/2 library decodes them.

Decoding a header block costs more than everything else about a refusal. The server announces a
header table of size 0; a client that heeds it says so at the beginning of its next header block,
and from then on no header block depends on another one. So those of calls that are refused anyway
need not be decoded: they are recognized by the encoded path, answered with a frame that is ready,
and neither they nor their bodies reach the library. Clients that do not say so (some never use a
table, and never speak of it) are refused by their decoded headers instead.

While nothing is refused the sieve only follows the frames' boundaries, to know where one begins.
"""

from collections.abc import Sequence
from enum import Enum
from struct import Struct

# length << 8 | type, flags, stream (RFC 9113, section 4.1)
_HEAD = Struct(">IBI")
HEAD_BYTES = 9
# Where the stream's number is in a head.
_STREAM_AT = 5
PREFACE_BYTES = 24
FRAME_BYTES_MAX = 16_384
_DATA, _HEADERS, _RESET, _SETTINGS = 0, 1, 3, 4
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
# A change of the table's size (RFC 7541, section 6.3), and the one to 0.
_RESIZE_MASK, _RESIZE, _RESIZE_TO_0 = 0xE0, 0x20, 0x20
# Calls of one connection that are refused while their bodies are still on their way.
DROPPED_MAX = 4_096
# So much of the connection's window is taken by dropped bodies before it is given back.
WINDOW_DUE = 16_384
_GIVE_BACK = b"\0\0\4\x08\0\0\0\0\0"


class SieveOverrun(Exception):
    """The connection breaks the rules in a way that only its end can answer."""


class EncodedRefusal:
    """A refusal as header fields, and as the frame that says the same without the library."""

    __slots__ = ("block", "fields", "head")

    def __init__(self, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """`fields`: all of the response's, `:status` 200 first."""
        self.fields = fields
        # 0x88: `:status` 200 of the static table. The rest are literals that are not indexed, so
        # that the peer's table stays as the library knows it.
        self.block = b"\x88" + b"".join(
            b"\0" + _text(name) + _text(value) for name, value in fields[1:]
        )
        size = len(self.block).to_bytes(3, "big")
        self.head = size + bytes((_HEADERS, _END_HEADERS | _END_STREAM))


def _text(raw: bytes) -> bytes:
    """A string literal of HPACK, not Huffman-coded (RFC 7541, sections 5.1 and 5.2)."""
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    left, head = len(raw) - 127, bytearray((127,))
    while left >= 128:
        head.append(left & 127 | 128)
        left >>= 7
    head.append(left)
    return bytes(head) + raw


def _empties_table(data: bytes, at: int, flags: int) -> bool:
    """Whether the HEADERS frame that begins at `at` says that the client's table is of size 0."""
    at += HEAD_BYTES + bool(flags & _PADDED) + 5 * bool(flags & _PRIORITY)
    first, second = data[at : at + 1], data[at + 1 : at + 2]
    # Two changes in a row end with the second one's size.
    resized_again = bool(second) and second[0] & _RESIZE_MASK == _RESIZE
    return bool(first) and first[0] == _RESIZE_TO_0 and not resized_again


class _State(Enum):
    """What is known of a client's header table."""

    # It has not acknowledged our settings yet.
    ASKED = 1
    # It has; its next header block says what it makes of them.
    ACKNOWLEDGED = 2
    # Its table is empty for good.
    STATELESS = 3
    # Nothing can be left out on this connection.
    OFF = 4


class Sieve:
    """The frames of one connection: which go on to the library, and which are answered here.

    Attributes:
        out: answers to be sent, in whole frames; emptied by the connection.
        refused: calls refused, by the index of their method; emptied by the connection.
    """

    __slots__ = (
        "_contents",
        "_dropped",
        "_held",
        "_known",
        "_passed",
        "_patterns",
        "_preface",
        "_seen",
        "_skip",
        "_state",
        "_window",
        "out",
        "refused",
    )

    def __init__(self, patterns: Sequence[tuple[bytes, int]], contents: Sequence[bytes]) -> None:
        """
        Args:
            patterns: encoded paths of the calls that may be refused, each with its method.
            contents: encoded content types of gRPC, whose form the refusals have.
        """
        self._patterns = patterns
        self._contents = contents
        # Where the last call that could be refused had its path and its content type, counted from
        # its frame's beginning, and which: a client encodes all of its calls alike.
        self._known: tuple[int, bytes, int, int, bytes] | None = None
        self._state = _State.ASKED
        self.out = bytearray()
        self.refused: list[int] = []
        # Bytes of the connection's preface, and of the frame that has begun, which go on as they
        # come.
        self._preface = PREFACE_BYTES
        self._skip = 0
        # The beginning of a frame about which nothing can be decided yet.
        self._held = b""
        # The last stream that went on, and the last one seen.
        self._passed = 0
        self._seen = 0
        # Streams that are refused, and whose bodies go on coming.
        self._dropped: set[int] = set()
        # Bytes of dropped bodies that have not been given back to the connection's window.
        self._window = 0

    def passed(self, stream_id: int) -> None:
        """The library has read the header block of this stream."""
        if stream_id > self._passed:
            self._passed = stream_id
            self._seen = max(self._seen, stream_id)

    def switch_off(self) -> None:
        """Let everything go on, from the next frames on."""
        self._state = _State.OFF

    def sift(self, data: bytes, refusals: Sequence[EncodedRefusal] | None) -> bytes:
        """What the library is to read of `data`.

        Args:
            data: as it came.
            refusals: what callers are told; None while calls are let in.

        Raises:
            SieveOverrun: the connection is to be closed.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        if self._skip or self._preface:
            at = min(len(data), self._skip + self._preface)
            begun = min(at, self._preface)
            self._preface -= begun
            self._skip -= at - begun
        else:
            at = 0
        if self._state is not _State.STATELESS:
            return data if self._state is _State.OFF else self._watch(data, at)
        # What belongs to a refused call is dropped until the library knows a later one: of that
        # moment on it ignores by itself what comes for an earlier stream.
        if refusals is None and not self._dropped and self._seen == self._passed:
            return self._follow(data, at)
        return self._filter(data, at, refusals)

    def _watch(self, data: bytes, at: int) -> bytes:
        """Everything goes on in whole frames, until the client has said what its table is."""
        end = len(data)
        while end - at >= HEAD_BYTES and self._state is not _State.STATELESS:
            word, flags, _ = _HEAD.unpack_from(data, at)
            after = at + HEAD_BYTES + (word >> 8)
            if after > end:
                if word >> 8 > FRAME_BYTES_MAX:
                    # Too large for us: the library says so.
                    return data
                break
            kind = word & 255
            if kind == _SETTINGS and flags & _ACK:
                self._state = _State.ACKNOWLEDGED
            elif kind == _HEADERS and self._state is _State.ACKNOWLEDGED:
                self._state = _State.STATELESS if _empties_table(data, at, flags) else _State.OFF
                if self._state is _State.OFF:
                    return data
            at = after
        if self._state is _State.STATELESS:
            return self._follow(data, at)
        self._held = data[at:]
        return data[:at]

    def _follow(self, data: bytes, at: int) -> bytes:
        """Everything goes on, but for the head of a frame that is cut off within."""
        end = len(data)
        unpack = _HEAD.unpack_from
        while end - at >= HEAD_BYTES:
            word, _, stream_id = unpack(data, at)
            at += HEAD_BYTES + (word >> 8)
            if at > end:
                self._skip = at - end
                if word & 255 == _HEADERS:
                    self.passed(stream_id)
                return data
        if at < end:
            self._held = data[at:]
            return data[:at]
        return data

    def _filter(  # noqa: C901, PLR0912, PLR0915 - one loop: a call a frame costs what is saved here
        self, data: bytes, at: int, refusals: Sequence[EncodedRefusal] | None
    ) -> bytes:
        """Frame by frame; a frame that has not come whole is held back."""
        end = len(data)
        unpack = _HEAD.unpack_from
        dropped = self._dropped
        parts: list[bytes] = []
        answers: list[bytes] = []
        # The first byte that neither went on nor was dropped.
        begin = 0
        while end - at >= HEAD_BYTES:
            word, flags, stream_id = unpack(data, at)
            length = word >> 8
            after = at + HEAD_BYTES + length
            if length > FRAME_BYTES_MAX:
                # Too large for us: the library says so.
                at = end
                break
            if after > end:
                break
            kind = word & 255
            drops = False
            if kind == _HEADERS:
                if stream_id in dropped:
                    # Trailers of a call that is refused: they end it.
                    drops = True
                    dropped.discard(stream_id)
                elif stream_id > self._seen and stream_id & 1:
                    method = -1
                    if refusals is not None and flags & _END_HEADERS:
                        method = self._method(data, at, after)
                    if method >= 0 and refusals is not None:
                        drops = True
                        self._seen = stream_id
                        self.refused.append(method)
                        refusal = refusals[(stream_id >> 1) % len(refusals)]
                        answers += (
                            refusal.head,
                            data[at + _STREAM_AT : at + HEAD_BYTES],
                            refusal.block,
                        )
                        if not flags & _END_STREAM:
                            dropped.add(stream_id)
                    else:
                        self._seen = self._passed = stream_id
            elif kind == _DATA:
                if stream_id in dropped:
                    drops = True
                    self._window += length
                    if flags & _END_STREAM:
                        dropped.discard(stream_id)
            elif stream_id and (stream_id in dropped or stream_id > self._passed):
                # About a call that the library has never heard of.
                drops = stream_id <= self._seen
                if kind == _RESET:
                    dropped.discard(stream_id)
            if drops:
                if begin < at:
                    parts.append(data[begin:at])
                begin = after
            at = after
        if at < end:
            self._held = data[at:]
        if len(dropped) > DROPPED_MAX:
            raise SieveOverrun
        if answers:
            self.out += b"".join(answers)
        if self._window >= WINDOW_DUE:
            self.out += _GIVE_BACK + self._window.to_bytes(4, "big")
            self._window = 0
        if begin < at:
            parts.append(data[begin:at])
        return b"".join(parts)

    def _method(self, data: bytes, at: int, after: int) -> int:
        """The method that a header block of gRPC names; -1 if there is none."""
        known = self._known
        if (
            known is not None
            and data.startswith(known[1], at + known[0], after)
            and data.startswith(known[4], at + known[3], after)
        ):
            return known[2]
        for pattern, method in self._patterns:
            path_at = data.find(pattern, at, after)
            if path_at >= 0:
                for content in self._contents:
                    content_at = data.find(content, at, after)
                    if content_at >= 0:
                        self._known = path_at - at, pattern, method, content_at - at, content
                        return method
                return -1
        return -1
