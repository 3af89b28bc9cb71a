"""Answers of gRPC over HTTP/2, as they are read: statuses, metadata, messages, and what is none.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2.md), and its mappings of HTTP's statuses and errors.
"""

import base64
import binascii
from urllib.parse import unquote

import grpc

from seckill.runtime.http2.engine import Code, Headers
from seckill.runtime.never_sent import NeverSent

PREFIX_BYTES = 5

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# HTTP status of a server or a proxy that does not speak gRPC → what that means.
_OF_HTTP = {
    400: grpc.StatusCode.INTERNAL,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.UNAVAILABLE,
}
# Error by which a stream was reset → what that means; all others are INTERNAL.
_OF_RESET = {
    int(Code.REFUSED_STREAM): grpc.StatusCode.UNAVAILABLE,
    int(Code.CANCEL): grpc.StatusCode.CANCELLED,
    int(Code.ENHANCE_YOUR_CALM): grpc.StatusCode.RESOURCE_EXHAUSTED,
    int(Code.INADEQUATE_SECURITY): grpc.StatusCode.PERMISSION_DENIED,
}
# Fields of an answer that are no metadata.
_OURS = frozenset({b"grpc-status", b"grpc-message", b"content-type", b"grpc-encoding"})


def failed(
    code: grpc.StatusCode, details: str, trailing: grpc.aio.Metadata | None = None
) -> grpc.aio.AioRpcError:
    """Return the error of a call that was, or may have been, sent."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), details)


def never_sent(code: grpc.StatusCode, details: str) -> NeverSent:
    """Return the error of a call that was surely not handled."""
    return NeverSent(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def of_reset(code: int) -> grpc.aio.AioRpcError:
    """Return what a stream means that was reset with that error."""
    status = _OF_RESET.get(code, grpc.StatusCode.INTERNAL)
    return failed(status, f"stream was reset with error {code}")


def of_beginning(fields: Headers) -> grpc.aio.AioRpcError | None:
    """Return what is wrong with the first header fields of an answer; None if nothing is."""
    named = dict(fields)
    status = named.get(b":status", b"")
    if status != b"200":
        number = int(status) if status.isdigit() else 0
        code = _OF_HTTP.get(number, grpc.StatusCode.UNKNOWN)
        return failed(code, f"answered with HTTP status {number}")
    content_type = named.get(b"content-type", b"")
    if not content_type.startswith(b"application/grpc"):
        return failed(grpc.StatusCode.UNKNOWN, "answered with something that is not gRPC")
    return None


def of_status(fields: Headers) -> grpc.aio.AioRpcError | None:
    """Return the status in the last fields of an answer as an error; None if it is OK."""
    named = dict(fields)
    status = named.get(b"grpc-status")
    if status == b"0":
        return None
    if status is None:
        return failed(grpc.StatusCode.UNKNOWN, "answered without a status")
    number = int(status) if status.isdigit() else -1
    code = _CODES.get(number, grpc.StatusCode.UNKNOWN)
    details = unquote(named.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
    return failed(code, details, _metadata(fields))


def _metadata(fields: Headers) -> grpc.aio.Metadata:
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name in _OURS or name.startswith(b":"):
            continue
        key = name.decode("latin-1")
        if key.endswith("-bin"):
            pairs += [(key, decoded) for part in value.split(b",") for decoded in _binary(part)]
        else:
            pairs.append((key, value.decode("latin-1")))
    return grpc.aio.Metadata(*pairs)


def _binary(text: bytes) -> list[bytes]:
    """Return the bytes that base64 stands for, with or without padding; none if it is broken."""
    try:
        return [base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)]
    except binascii.Error:
        return []


def single_message(body: bytearray) -> bytes:
    """Return the one message of an answer's body. Raises AioRpcError, INTERNAL, if it is none."""
    length = int.from_bytes(body[1:PREFIX_BYTES], "big")
    if len(body) < PREFIX_BYTES or length != len(body) - PREFIX_BYTES:
        raise failed(grpc.StatusCode.INTERNAL, "answered with something else than one message")
    if body[0]:
        raise failed(grpc.StatusCode.INTERNAL, "answered with a compressed message")
    return bytes(memoryview(body)[PREFIX_BYTES:])
