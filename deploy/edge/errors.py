"""What Envoy itself answers where something is wrong: a google.rpc.Status, as the gateway does."""

import base64
import json
import math

from google.protobuf import json_format
from google.rpc import status_pb2

from deploy.edge.typed import Json, extension
from seckill.errors import (
    DeadlinePassed,
    DependencyUnavailable,
    InvalidField,
    NotAllowed,
    NotImplementedYet,
    RateLimited,
    SeckillError,
    encode_details,
)

GRPC = "application/grpc"
# Where nothing better is known, a caller who was turned away may come back after this.
RETRY_S = 1.0
# HTTP status of an answer of Envoy's own → the error that says the same.
MEANINGS: dict[int, SeckillError] = {
    400: InvalidField([("request", "cannot be read")]),
    403: NotAllowed("this is not for the public"),
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
# Where Envoy's own words say more than ours: they are added.
WORDS_ADDED = (400,)


def overwritten(name: str, value: str) -> Json:
    """A header that takes the place of whatever stands there."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def status_headers(error: SeckillError) -> list[Json]:
    """The headers of a gRPC answer that has no message: code, message, details."""
    details = base64.b64encode(encode_details(error)).rstrip(b"=").decode()
    return [
        overwritten("grpc-status", str(error.code.value[0])),
        overwritten("grpc-message", literal(str(error))),
        overwritten("grpc-status-details-bin", details),
    ]


def literal(text: str) -> str:
    """Text that Envoy's formatter leaves as it is."""
    return text.replace("%", "%%")


def local_replies() -> Json:
    """How Envoy words its own failures: the same for gRPC and JSON as the gateway would."""
    # The first that fits is taken: what was said on purpose (a refusal in a storm, and the like)
    # stays as it is, and costs one look.
    mappers: list[Json] = [{"filter": _status_is(200)}, {"filter": _said_on_purpose()}]
    for http_status, error in MEANINGS.items():
        status = _status_is(http_status)
        mappers.append(
            {
                "filter": {"and_filter": {"filters": [status, *_asked_in_grpc()]}},
                "headers_to_add": [*status_headers(error), *_retry_after(error)],
            }
        )
        body = json.loads(json_body(error))
        if http_status in WORDS_ADDED:
            body["message"] += ". %LOCAL_REPLY_BODY%"
        mappers.append(
            {
                "filter": status,
                "headers_to_add": _retry_after(error),
                "body_format_override": {
                    "json_format": body,
                    "content_type": "application/json",
                },
            }
        )
    return {"mappers": mappers}


def _retry_after(error: SeckillError) -> list[Json]:
    if error.retry_after_s is None:
        return []
    return [overwritten("retry-after", str(math.ceil(error.retry_after_s)))]


def _status_is(http_status: int) -> Json:
    # The runtime key is required, and never set.
    value = {"default_value": http_status, "runtime_key": f"edge.status_{http_status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _said_on_purpose() -> Json:
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression="response.code_details == 'direct_response'",
        )
    }


def _asked_in_grpc() -> list[Json]:
    """Filters: gRPC or gRPC-Web by the caller's own word, not made so by the transcoder."""
    content = {"name": "content-type", "string_match": {"prefix": GRPC}}
    transcoded = {"name": "x-envoy-original-path", "present_match": False}
    return [{"header_filter": {"header": header}} for header in (content, transcoded)]


def json_body(error: SeckillError) -> str:
    """The error as the transcoder would print it."""
    status = status_pb2.Status.FromString(encode_details(error))
    printed = json_format.MessageToDict(status, always_print_fields_with_no_presence=True)
    return json.dumps(printed, separators=(",", ":"))
