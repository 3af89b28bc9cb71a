"""Statuses as header fields: what a failed call is answered with, encoded once if it can be."""

import base64
from collections.abc import Mapping
from urllib.parse import quote

import grpc

from seckill.errors import InvalidField, RemoteError, SeckillError
from seckill.front.messages import ACCEPTED_ENCODINGS, is_accepted
from seckill.runtime.http2.engine import Headers
from seckill.status import trailing_metadata

GRPC = b"application/grpc"

ANSWER: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK: Headers = ((b"grpc-status", b"0"),)
NOT_POST: Headers = ((b":status", b"405"), (b"allow", b"POST"))
NOT_GRPC: Headers = ((b":status", b"415"),)
ENCODING_UNKNOWN: Headers = (
    *ANSWER,
    (b"grpc-status", b"%d" % grpc.StatusCode.UNIMPLEMENTED.value[0]),
    (b"grpc-message", b"grpc-encoding is not supported"),
    (b"grpc-accept-encoding", ACCEPTED_ENCODINGS),
)
# Encoded failures kept: those of a flood are all alike (encoding one takes 10 µs and more).
FAILURES_MAX = 1_024
# What a header may hold as it is; the rest is percent-encoded (gRPC over HTTP/2, Status-Message).
MESSAGE_SAFE = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"

_failures: dict[tuple[type, str, float | None], Headers] = {}


def trailers(error: SeckillError) -> Headers:
    """The trailing fields of a failure: its code, message and metadata."""
    if error.metadata or isinstance(error, InvalidField | RemoteError):
        return _encode(error)
    key = (type(error), str(error), error.retry_after_s)
    known = _failures.get(key)
    if known is None:
        if len(_failures) >= FAILURES_MAX:
            _failures.clear()
        known = _failures[key] = _encode(error)
    return known


def failure(error: SeckillError) -> Headers:
    """A whole response that only says what went wrong."""
    return ANSWER + trailers(error)


def _encode(error: SeckillError) -> Headers:
    fields = [
        (b"grpc-status", b"%d" % error.code.value[0]),
        # A value that ends with a space is malformed to libnghttp2, here and at the caller's.
        (b"grpc-message", quote(str(error).strip(), safe=MESSAGE_SAFE).encode()),
    ]
    for name, value in trailing_metadata(error):
        text = base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode()
        fields.append((name.encode(), text))
    return tuple(fields)


def is_grpc(named: Mapping[bytes, bytes]) -> bool:
    """Whether a request says that it is gRPC."""
    content_type = named.get(b"content-type", b"")
    return content_type == GRPC or content_type.startswith((GRPC + b"+", GRPC + b";"))


def wrong_with(
    named: Mapping[bytes, bytes], timeout_s: float, *, lacks_body: bool
) -> Headers | None:
    """What a call is answered that is not gRPC as we know it; None if it is."""
    if named.get(b":method") != b"POST":
        return NOT_POST
    if not is_accepted(named.get(b"grpc-encoding")):
        return ENCODING_UNKNOWN
    if timeout_s < 0:
        return failure(InvalidField([("grpc-timeout", "is malformed")]))
    if lacks_body:
        return failure(InvalidField([("request", "is missing")]))
    return None
