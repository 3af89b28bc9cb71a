"""Answers as HTTP has them: a status, header fields, and JSON."""

import math
from typing import NamedTuple

import grpc
from google.rpc import status_pb2

from gateway.front.rest.encoding import to_json
from gateway.front.rest.routes import MethodNotAllowed, PathUnknown
from seckill.errors import DeadlinePassed, InvalidField, RemoteError, SeckillError
from seckill.front.messages import RequestTooLarge
from seckill.status import encode_details

Fields = tuple[tuple[bytes, bytes], ...]

JSON: Fields = ((b"content-type", b"application/json"),)
# google/rpc/code.proto, which says the HTTP status of each code.
HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
INTERNAL = 500
# Encoded failures kept: those of a flood are all alike.
FAILURES_MAX = 1_024


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    fields: Fields
    body: bytes


class RequestTimeout(DeadlinePassed):
    """The request did not arrive in time."""


class HeadersTooLarge(InvalidField):
    """The request's header fields are too large, or too many."""


class MediaTypeUnknown(InvalidField):
    """The request has a content type that is not understood."""


# What HTTP has a status of its own for.
_OWN_STATUS: dict[type[SeckillError], int] = {
    PathUnknown: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    RequestTooLarge: 413,
    MediaTypeUnknown: 415,
    HeadersTooLarge: 431,
}
_failures: dict[tuple[type, str, float | None], Answer] = {}


def success(body: bytes) -> Answer:
    """Return the answer of a call that went well."""
    return Answer(200, JSON, body)


def failure(error: SeckillError) -> Answer:
    """Return a failure as google.rpc.Status in JSON, with its details."""
    if error.metadata or isinstance(error, InvalidField | RemoteError | MethodNotAllowed):
        return _encode(error)
    key = (type(error), str(error), error.retry_after_s)
    known = _failures.get(key)
    if known is None:
        if len(_failures) >= FAILURES_MAX:
            _failures.clear()
        known = _failures[key] = _encode(error)
    return known


def status_line(error: SeckillError) -> bytes:
    """Return the failure of a stream that has begun: its last line."""
    return _status(error) + b"\n"


def _status(error: SeckillError) -> bytes:
    return to_json(status_pb2.Status.FromString(encode_details(error)))


def _encode(error: SeckillError) -> Answer:
    status = _OWN_STATUS.get(type(error)) or HTTP_STATUS.get(error.code, INTERNAL)
    fields = JSON
    if error.retry_after_s is not None:
        fields += ((b"retry-after", b"%d" % math.ceil(error.retry_after_s)),)
    if isinstance(error, MethodNotAllowed):
        fields += ((b"allow", error.allowed.encode()),)
    return Answer(status, fields, _status(error))
