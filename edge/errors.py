"""Envoy's own error answers: each a google.rpc.Status, as the gateway's are."""

import base64
import json
import math
from collections.abc import Callable, Mapping

from google.protobuf import json_format
from google.rpc import status_pb2

from edge.typed import Json, extension, overwritten
from seckill.errors import (
    DeadlinePassed,
    DependencyUnavailable,
    InvalidField,
    NotAllowed,
    NotImplementedYet,
    Overloaded,
    RateLimited,
    SeckillError,
)
from seckill.status import encode_details, trailing_metadata

GRPC = "application/grpc"
# A refused caller may try again after this, unless a better time is known.
RETRY_S = 1.0
# HTTP status of Envoy's own answer → the error that means the same.
MEANINGS: dict[int, SeckillError] = {
    400: InvalidField([("request", "cannot be read")]),
    403: NotAllowed("this method is not public"),
    404: NotImplementedYet("there is no such method"),
    405: NotImplementedYet("there is no such method"),
    408: DeadlinePassed("the request did not arrive in time"),
    413: InvalidField([("request", "has a body that is too large")]),
    415: InvalidField([("request", "has a content type that is not understood")]),
    426: InvalidField([("request", "has a protocol that is not understood")]),
    429: RateLimited("address", retry_after_s=RETRY_S),
    431: InvalidField([("request", "has headers that are too large, or too many")]),
    500: SeckillError(),
    502: DependencyUnavailable("the gateway does not answer"),
    503: DependencyUnavailable("the gateway does not answer"),
    504: DeadlinePassed("the gateway did not answer in time"),
}
# Envoy's flags of calls that it has refused because too many are in flight (the cluster's breaker,
# UO), or because its own memory is short (the overload manager, OM).
OVERLOAD_FLAGS = ["UO", "OM"]
TOO_MANY = 429
# What a route answers that sheds (shed_routes.py), until it is said as the former: a 429 of Envoy's
# filters gets another body.
SHED_STATUS = 420
# Callers refused at the same moment are told one of these, each as often as the others.
OVERLOAD_DELAYS_S = (0.4, 0.6, 0.8, 1.0)
# HTTP statuses whose message gets Envoy's own words too: they say more than ours.
WORDS_ADDED = (400, 401)


def status_headers(error: SeckillError) -> list[Json]:
    """Return the headers of a gRPC answer without a message: code, message, details, delays."""
    fields = [
        overwritten("grpc-status", str(error.code.value[0])),
        overwritten("grpc-message", literal(str(error))),
    ]
    for name, value in trailing_metadata(error):
        text = value
        if isinstance(value, bytes):
            text = base64.b64encode(value).rstrip(b"=").decode()
        fields.append(overwritten(name, str(text)))
    return fields


def literal(text: str) -> str:
    """Escape text so that Envoy's formatter leaves it as it is."""
    return text.replace("%", "%%")


def local_replies(meanings: Mapping[int, SeckillError] = MEANINGS) -> Json:
    """Return how Envoy words its own failures: in gRPC and JSON as the gateway would."""
    # The first that matches is taken, so those of floods come first: answers that routes give, e.g.
    # refusals, stay as they are and cost one look.
    mappers: list[Json] = [
        {"filter": _status_is(200)},
        {"filter": _status_is(SHED_STATUS), "status_code": TOO_MANY},
        *_mappers(TOO_MANY, meanings[TOO_MANY]),
        *_overload_mappers(),
        {"filter": _is_direct_response()},
    ]
    for http_status, error in meanings.items():
        mappers += _mappers(http_status, error)
    return {"mappers": mappers}


def _mappers(http_status: int, error: SeckillError) -> list[Json]:
    words = ". %LOCAL_REPLY_BODY%" if http_status in WORDS_ADDED else ""
    status = _status_is(http_status)
    return [
        {"filter": _all(status, *is_grpc()), **_in_grpc(error)},
        {"filter": status, **_in_json(error, words)},
    ]


def _overload_mappers() -> list[Json]:
    """Say Overloaded with one of several delays."""
    mappers: list[Json] = []
    forms: tuple[tuple[list[Json], Callable[[SeckillError], Json]], ...] = (
        (is_grpc(), _in_grpc),
        ([], lambda error: {**_in_json(error), "status_code": TOO_MANY}),
    )
    for sent, said in forms:
        # Of those that are left each mapper takes its share, and the last one takes all.
        for left, delay_s in zip((4, 3, 2, 1), OVERLOAD_DELAYS_S, strict=True):
            error = Overloaded()
            error.retry_after_s = delay_s
            filters = (_is_overload(), *sent, *_one_of(left))
            mappers.append({"filter": _all(*filters), **said(error)})
    return mappers


def _in_grpc(error: SeckillError) -> Json:
    """The same for gRPC and gRPC-Web, which both read a status from the headers."""
    return {
        "headers_to_add": status_headers(error),
        # The filter of gRPC-Web would make a status of its own of any other HTTP status, and gRPC
        # a message of a body.
        "status_code": 200,
        "body_format_override": {"text_format_source": {"inline_string": ""}},
    }


def _in_json(error: SeckillError, words: str = "") -> Json:
    """`words`: added to the message."""
    body = json.loads(json_body(error))
    body["message"] += words
    return {
        "headers_to_add": retry_after(error),
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }


def _all(*filters: Json) -> Json:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}


def _is_overload() -> Json:
    return {"response_flag_filter": {"flags": OVERLOAD_FLAGS}}


def _one_of(count: int) -> list[Json]:
    """Filters that one of `count` calls passes."""
    if count == 1:
        return []
    share = {"numerator": 1_000_000 // count, "denominator": "MILLION"}
    return [
        {
            "runtime_filter": {
                "runtime_key": f"edge.overload_delay_{count}",
                "percent_sampled": share,
                "use_independent_randomness": True,
            }
        }
    ]


def retry_after(error: SeckillError) -> list[Json]:
    """Return the header that says in whole seconds when to come back, if the error says it."""
    if error.retry_after_s is None:
        return []
    return [overwritten("retry-after", str(math.ceil(error.retry_after_s)))]


def _status_is(http_status: int) -> Json:
    # The runtime key is required, and never set.
    value = {"default_value": http_status, "runtime_key": f"edge.status_{http_status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _is_direct_response() -> Json:
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression="response.code_details == 'direct_response'",
        )
    }


def is_grpc() -> list[Json]:
    """Return filters: the caller sent gRPC or gRPC-Web; the transcoder did not make it so."""
    content = {"name": "content-type", "string_match": {"prefix": GRPC}}
    transcoded = {"name": "x-envoy-original-path", "present_match": False}
    return [{"header_filter": {"header": header}} for header in (content, transcoded)]


def json_body(error: SeckillError) -> str:
    """Return the error as the transcoder would print it."""
    status = status_pb2.Status.FromString(encode_details(error))
    printed = json_format.MessageToDict(status, always_print_fields_with_no_presence=True)
    return json.dumps(printed, separators=(",", ":"))
