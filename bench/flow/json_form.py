"""GatewayService as JSON over HTTP: a call of the client as a request, and its answer as a message.

What the google.api.http annotations of protos/seckill/v1/gateway.proto say, for the methods that a
buyer's page calls.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

# Puts the details of errors into the pool that ParseDict looks them up in.
from google.rpc import error_details_pb2, status_pb2  # noqa: F401

from seckill.v1 import gateway_pb2

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
OK = 200


@dataclass(frozen=True, slots=True)
class Path:
    """One method as JSON over HTTP.

    Attributes:
        rpc: name in GatewayService.
        verb: HTTP method.
        template: path with its variable in braces; also the name in locust's tables.
        variable: the field that the path has, by its name in JSON.
    """

    rpc: str
    verb: str
    template: str
    variable: str


PATHS = {
    path.rpc: path
    for path in (
        Path("GetSale", "GET", "/v1/sales/{sku}", "sku"),
        Path("IssuePurchaseToken", "POST", "/v1/sales/{sku}:issuePurchaseToken", "sku"),
        Path("Purchase", "POST", "/v1/sales/{sku}:purchase", "sku"),
        Path("GetOrder", "GET", "/v1/orders/{order_no}", "orderNo"),
        Path("CancelOrder", "POST", "/v1/orders/{order_no}:cancel", "orderNo"),
        Path("PayOrder", "POST", "/v1/orders/{order_no}:pay", "orderNo"),
    )
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Of answers without a google.rpc.Status: not from the mesh, nor from its edge.
_CODES_BY_STATUS = {
    # No answer at all.
    0: grpc.StatusCode.UNAVAILABLE,
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class JsonRequest:
    """An HTTP request. `body`: sent as JSON; None sends none."""

    verb: str
    path: str
    body: Mapping[str, Any] | None


def request_of(method: str, request: Message) -> JsonRequest:
    """Return the HTTP request of a call; what its path names is not in its body."""
    path = PATHS[method]
    body = MessageToDict(request)
    head, _, tail = path.template.partition("{")
    url = f"{head}{body.pop(path.variable)}{tail.partition('}')[2]}"
    return JsonRequest(path.verb, url, body if path.verb == "POST" else None)


def response_of(method: str, body: bytes) -> Message:
    """Return the message of an answer with status 200.

    Raises:
        ValueError: it is no such message, or no JSON.
    """
    response = GetMessageClass(SERVICE.methods_by_name[method].output_type)()
    try:
        return ParseDict(json.loads(body), response, ignore_unknown_fields=True)
    except ParseError as error:
        raise ValueError(str(error)) from error


def status_of(status: int, body: bytes) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return the gRPC status, and the google.rpc.Status, of an answer with another HTTP status."""
    found = status_pb2.Status()
    try:
        ParseDict(json.loads(body or b"{}"), found, ignore_unknown_fields=True)
    except (ParseError, ValueError):
        found.Clear()
    if found.code:
        return _CODES.get(found.code, grpc.StatusCode.UNKNOWN), found
    return _CODES_BY_STATUS.get(status, grpc.StatusCode.UNKNOWN), found
