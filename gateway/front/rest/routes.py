"""From a method and a path to a call: what the google.api.http annotations of the contract say.

Each RPC also has POST /seckill.v1.GatewayService/<Method>, with everything in the body, unless its
body is not JSON.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from google.api import annotations_pb2, httpbody_pb2
from google.protobuf.descriptor import MethodDescriptor

from gateway.front.rest.decoding import RawBodyDecoder, RequestDecoder
from gateway.front.rest.encoding import ResponseEncoder, encoder_of
from seckill.errors import InvalidField, NotImplementedYet
from seckill.v1 import gateway_pb2

RAW_BODY = httpbody_pb2.HttpBody.DESCRIPTOR.full_name
SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
# The templates of the contract: "/v1/sales", "/v1/sales/{sku}", "/v1/sales/{sku}:purchase".
_TEMPLATE = re.compile(r"(?P<folder>(?:/\w+)+)(?:/\{(?P<variable>\w+)\}(?::(?P<verb>\w+))?)?")
QUERY_FIELDS_MAX = 16


class MethodNotAllowed(NotImplementedYet):
    """This path does not have this HTTP method."""

    def __init__(self, allowed: str) -> None:
        """`allowed`: the methods that the path has, as the header `allow` names them."""
        super().__init__(f"this path has only {allowed}")
        self.allowed = allowed


class PathUnknown(NotImplementedYet):
    """There is no such method."""


@dataclass(frozen=True, slots=True)
class Route:
    """An RPC at one of its paths.

    Attributes:
        path: "/package.Service/Method".
        variable: the field that the path names; empty for none.
        has_body: the other fields are in the body, else in the query.
        streams: it answers with any number of messages.
    """

    path: str
    variable: str
    has_body: bool
    streams: bool
    decoder: RequestDecoder | RawBodyDecoder
    encode: ResponseEncoder


@dataclass(frozen=True, slots=True)
class Target:
    """A call as its request line names it.

    Attributes:
        value: of the route's variable.
    """

    route: Route
    value: str
    query: str

    def decode(self, body: bytes) -> bytes:
        """Return the serialized request. Raises InvalidField naming what is wrong."""
        route = self.route
        bound = {route.variable: self.value} if route.variable else {}
        if route.has_body or isinstance(route.decoder, RawBodyDecoder):
            if self.query:
                name = _fields(self.query)[0][0]
                raise InvalidField([(name, "is in the query: this method takes its body alone")])
            return route.decoder.decode(body, bound)
        if body:
            raise InvalidField([("request", "has a body, which this method does not take")])
        return route.decoder.decode_query(_fields(self.query) if self.query else [], bound)


def _fields(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError as error:
        raise InvalidField([("query", "is malformed, or has too many fields")]) from error


Key = tuple[str, str | None]


def _has_raw_body(method: MethodDescriptor, body: str) -> bool:
    field = method.input_type.fields_by_name.get(body)
    kind = field.message_type if field is not None else None
    return kind is not None and kind.full_name == RAW_BODY


class Routes:
    """All paths, by folder and by the verb after the colon."""

    def __init__(self) -> None:
        # (folder, verb) of paths with a variable, (path, None) of those without.
        self._routes: dict[Key, dict[str, Route]] = {}
        for method in SERVICE.methods:
            path = f"/{SERVICE.full_name}/{method.name}"
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            http_method = rule.WhichOneof("pattern")
            found = _TEMPLATE.fullmatch(getattr(rule, http_method))
            if found is None:
                raise ValueError(f"{method.full_name} has a path of a form that is not known")
            folder, variable, verb = found.group("folder", "variable", "verb")
            key = (folder, (verb or "") if variable else None)
            if _has_raw_body(method, rule.body):
                raw = RawBodyDecoder(method.input_type, rule.body)
                self._add(key, http_method, method, path, variable or "", raw)
                continue
            decoder = RequestDecoder(method.input_type)
            self._add(key, http_method, method, path, variable or "", decoder)
            self._add((path, None), "post", method, path, "", decoder)

    def _add(
        self,
        key: Key,
        http_method: str,
        method: MethodDescriptor,
        path: str,
        variable: str,
        decoder: RequestDecoder | RawBodyDecoder,
    ) -> None:
        self._routes.setdefault(key, {})[http_method.upper()] = Route(
            path=path,
            variable=variable,
            has_body=http_method == "post",
            streams=method.server_streaming,
            decoder=decoder,
            encode=encoder_of(method.output_type),
        )

    def find(self, http_method: str, url: str) -> Target:
        """Return what a request line names.

        Raises:
            PathUnknown: nothing has this path.
            MethodNotAllowed: the path has other methods.
            InvalidField: the path is not UTF-8.
        """
        path, _, query = url.partition("?")
        value = ""
        methods = self._routes.get((path, None))
        if methods is None:
            folder, _, last = path.rpartition("/")
            value, _, verb = last.partition(":")
            methods = self._routes.get((folder, verb))
            if methods is None or not value:
                raise PathUnknown
            if "%" in value:
                value = _unquote(value)
        route = methods.get(http_method)
        if route is None:
            raise MethodNotAllowed(", ".join(sorted(methods)))
        return Target(route, value, query)


def _unquote(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidField([("path", "is not UTF-8")]) from error
