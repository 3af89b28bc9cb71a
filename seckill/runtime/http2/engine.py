"""HTTP/2 itself: the only file that knows the library, `ngh2` (libnghttp2 in a wheel).

Framing, header compression, flow control and validation are the library's; it knows no sockets.
Bytes go in (`receive_data`), events come out (`events`), and bytes to be sent (`data_to_send`).
"""

from typing import Protocol

from ngh2 import (
    Configuration,
    ConnectionClosed,
    DataReceived,
    Event,
    GoAwayReceived,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
    WindowUpdated,
)
from ngh2 import Connection as Engine
from ngh2 import ErrorCode as Code
from ngh2 import NGH2Error as EngineError

__all__ = [
    "Code",
    "ConnectionClosed",
    "DataReceived",
    "Engine",
    "EngineError",
    "Event",
    "GoAwayReceived",
    "Headers",
    "PingAcknowledged",
    "PingReceived",
    "RequestReceived",
    "ResponseReceived",
    "ServerLimits",
    "SettingsReceived",
    "StreamClosed",
    "TrailersReceived",
    "WindowUpdated",
    "client_engine",
    "encoded_values",
    "server_engine",
]

Headers = tuple[tuple[bytes, bytes], ...]

# Header fields of one call; gRPC clients send ten or so.
HEADER_FIELDS_MAX = 128
# Of one stream that a caller sends: no batched method's request comes near it, and what is passed
# through is given back as it is taken.
STREAM_WINDOW = 65_535
# Of all streams of one caller's connection: a stream that is held back leaves room for the others.
CONNECTION_WINDOW = 1_048_576
# The size of the table that a peer starts with, RFC 9113.
DEFAULT_TABLE_BYTES = 4_096
HEADER_TABLE_SIZE = int(Setting.HEADER_TABLE_SIZE)
# SETTINGS_HEADER_TABLE_SIZE = 0, as it stands in a SETTINGS frame.
_EMPTY_TABLE = HEADER_TABLE_SIZE.to_bytes(2, "big") + bytes(4)
FRAME_HEAD_BYTES = 9


class ServerLimits(Protocol):
    """What one caller's connection may take.

    Attributes:
        streams_max: calls at once.
        resets_per_s_max: calls that are cancelled, a second.
        header_bytes_max: of one call.
    """

    @property
    def streams_max(self) -> int: ...

    @property
    def resets_per_s_max(self) -> int: ...

    @property
    def header_bytes_max(self) -> int: ...


def server_engine(limits: ServerLimits) -> Engine:
    """The server's end of a connection, its greeting ready to be sent."""
    # A burst of four seconds: callers give up in waves, when a deadline passes for all of them.
    resets = (4 * limits.resets_per_s_max, limits.resets_per_s_max)
    engine = Engine(
        Role.SERVER,
        Configuration(
            auto_window_update=False,
            stream_reset_rate_limit=resets,
            max_inbound_header_list_size=limits.header_bytes_max,
            max_inbound_header_count=HEADER_FIELDS_MAX,
        ),
    )
    engine.initiate_connection(
        {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams_max,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes_max,
        }
    )
    engine.set_local_window_size(CONNECTION_WINDOW)
    return engine


def with_empty_table(greeting: bytes) -> bytes:
    """The greeting, with a header table of size 0 announced to the client, for the sieve.

    The library is not told. It would close on clients that never say a word about their table
    because they never use it, as RFC 7541, section 4.2, lets it; and whatever clients do with
    their table, it goes on to decode.
    """
    length = int.from_bytes(greeting[:3], "big") + len(_EMPTY_TABLE)
    head = length.to_bytes(3, "big") + greeting[3:FRAME_HEAD_BYTES]
    return head + _EMPTY_TABLE + greeting[FRAME_HEAD_BYTES:]


def client_engine() -> Engine:
    """Our end of a connection to a server, its greeting ready to be sent."""
    engine = Engine(
        Role.CLIENT, Configuration(auto_window_update=False, peer_max_concurrent_streams=2**31 - 1)
    )
    engine.initiate_connection({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW})
    engine.set_local_window_size(CONNECTION_WINDOW)
    return engine


def names_other_table(settings: SettingsReceived) -> bool:
    """Whether the peer's header table is not the default one, which our encoder must heed."""
    size = settings.settings.get(HEADER_TABLE_SIZE, DEFAULT_TABLE_BYTES)
    return size < DEFAULT_TABLE_BYTES


def encoded_values(value: bytes) -> tuple[bytes, bytes]:
    """The length and the text of a field as clients encode it: by Huffman's code, or plain."""
    client = Engine(Role.CLIENT, Configuration(max_deflate_dynamic_table_size=0))
    client.initiate_connection()
    client.data_to_send()
    client.send_request(((b":path", value),))
    block = client.data_to_send()[FRAME_HEAD_BYTES:]
    # Before it stand a change of the table's size and the name's index, 4.
    at = block.index(b"\x04") + 1
    return block[at:], bytes((len(value),)) + value
