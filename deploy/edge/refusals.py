"""What Envoy refuses by itself, as routes: purchases of sales that sell nothing at this moment.

A purchase can be refused before its body is read where its sku stands outside of it: in the path of
its JSON form, or as metadata `seckill-sku`. What the caller gets is what the gateway would say.
Each refusal is tied to a lease: without it, or with another one, the request goes to the gateway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

from google.protobuf import json_format

from deploy.edge import cors, transcoding
from deploy.edge.errors import GRPC, overwritten, status_headers
from deploy.edge.holders import holders_patterns
from deploy.edge.limits import BUFFER
from deploy.edge.listener import COMPRESSOR, GRPC_WEB
from deploy.edge.routes import (
    NAME,
    base_routes,
    content_is_grpc,
    refuse,
    to_gateway,
)
from deploy.edge.settings import EdgeSettings
from deploy.edge.transcoding import SERVICE
from deploy.edge.typed import Json, extension, switched_off, typed
from deploy.edge.web import FILE_BYTES_MAX, WebFile
from seckill.errors import REFUSALS, KillSwitchOn
from seckill.sale_view import SKU_METADATA, SaleView
from seckill.v1 import gateway_pb2

PURCHASE = f"/{SERVICE}/Purchase"
# Both forms of the two methods that the kill switch refuses.
HALTED = (
    {"path": PURCHASE},
    {"path": f"/{SERVICE}/IssuePurchaseToken"},
    {"safe_regex": {"regex": "/v1/sales/[^/]+:(?:purchase|issuePurchaseToken)"}},
)
FAILED_PRECONDITION_HTTP = 400
ANY: Json = {"prefix": "/"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One sale that Envoy refuses.

    Attributes:
        outcome: the PurchaseOutcome that a new buyer would get.
        holders: match `authorization` of those whom the gateway must answer.
    """

    sku: str
    outcome: int
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the routes are made of.

    Attributes:
        files: the static files.
        halted: the kill switch: all purchases and purchase tokens are refused.
        sales: those that are refused, ordered by sku.
    """

    files: tuple[WebFile, ...] = ()
    halted: bool = False
    sales: tuple[Refusal, ...] = ()


class Patterns:
    """The patterns of each sale's holders, kept as long as the holders stay the same object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[set[str], tuple[str, ...] | None]] = {}

    def find(self, sku: str, holders: set[str]) -> tuple[str, ...] | None:
        """As `holders_patterns`."""
        known = self._known.get(sku)
        if known is None or known[0] is not holders:
            known = self._known[sku] = (holders, holders_patterns(holders))
        return known[1]

    def keep(self, skus: Mapping[str, object]) -> None:
        """Forget all other sales."""
        self._known = {sku: self._known[sku] for sku in self._known.keys() & skus.keys()}


def decide(
    views: Mapping[str, SaleView], settings: EdgeSettings, patterns: Patterns, *, now_s: float
) -> tuple[Refusal, ...]:
    """Which of the sales can be refused by Envoy now, at most as many as the settings say.

    Those with few holders come first: they are refused at the least cost.

    Args:
        now_s: Unix time.
    """
    patterns.keep(views)
    candidates: list[tuple[int, str, int, set[str]]] = []
    for sku, view in views.items():
        outcome = view.refusal(now_s)
        if outcome is not None and view.holders is not None:
            candidates.append((len(view.holders), sku, outcome, view.holders))
    refusals: list[Refusal] = []
    room = settings.edge_holders_total_max
    for count, sku, outcome, holders in sorted(candidates, key=itemgetter(0, 1)):
        if count > min(room, settings.edge_holders_max):
            break
        if len(refusals) == settings.edge_refusals_max:
            break
        found = patterns.find(sku, holders)
        if found is not None:
            refusals.append(Refusal(sku, outcome, found))
            room -= count
    return tuple(sorted(refusals, key=attrgetter("sku")))


def route_configuration(settings: EdgeSettings, wanted: Wanted, lease: str) -> Json:
    """All routes.

    Args:
        wanted: what they are made of.
        lease: runtime key without which nothing is refused.
    """
    host: Json = {"name": NAME, "domains": ["*"], **cors.cors_policy(settings)}
    if wanted.halted:
        host["routes"] = [*_halted(lease), *base_routes(settings, wanted.files)]
    elif wanted.sales:
        host["matcher"] = _tree(settings, wanted, lease)
    else:
        host["routes"] = base_routes(settings, wanted.files)
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=NAME,
        virtual_hosts=[host],
        max_direct_response_body_size_bytes=FILE_BYTES_MAX,
    )


def _guarded(match: Json, lease: str) -> Json:
    fraction = {"default_value": {"numerator": 0}, "runtime_key": lease}
    return {**match, "runtime_fraction": fraction}


def _halted(lease: str) -> list[Json]:
    return [
        {**route, **switched_off(transcoding.NAME)}
        for match in HALTED
        for route in refuse(
            _guarded(match, lease), KillSwitchOn(), http_status=FAILED_PRECONDITION_HTTP
        )
    ]


def _tree(settings: EdgeSettings, wanted: Wanted, lease: str) -> Json:
    """A look-up by path, then by metadata: its cost does not grow with the number of sales."""
    passed_on = to_gateway(settings, ANY)
    by_path_on = to_gateway(settings, ANY, by_path=True)
    by_path: dict[str, Json] = {
        f"/v1/sales/{refusal.sku}:purchase": _routes([_refuse_json(refusal, lease), by_path_on])
        for refusal in wanted.sales
    }
    by_sku = {
        refusal.sku: _routes([*_refuse_grpc(refusal, lease), passed_on]) for refusal in wanted.sales
    }
    by_path[PURCHASE] = {"matcher": _lookup(SKU_METADATA, by_sku, otherwise=_routes([passed_on]))}
    return _lookup(":path", by_path, otherwise=_routes(base_routes(settings, wanted.files)))


def _lookup(header: str, found: Mapping[str, Json], *, otherwise: Json) -> Json:
    return {
        "matcher_tree": {
            "input": extension(
                "header",
                "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                header_name=header,
            ),
            "exact_match_map": {"map": found},
        },
        "on_no_match": otherwise,
    }


def _routes(routes: Sequence[Json]) -> Json:
    return {"action": extension("routes", "envoy.config.route.v3.RouteList", routes=routes)}


def _match(refusal: Refusal, lease: str, *headers: Json) -> Json:
    match: Json = _guarded(ANY, lease)
    others = [
        {
            "name": "authorization",
            "string_match": {"safe_regex": {"regex": pattern}},
            "invert_match": True,
            "treat_missing_header_as_empty": True,
        }
        for pattern in refusal.holders
    ]
    return {**match, "headers": [*headers, *others]}


def _refuse_grpc(refusal: Refusal, lease: str) -> list[Json]:
    """Two routes: gRPC itself, the crowd, past all filters but the rate limit; and gRPC-Web."""
    exactly: Json = {"name": "content-type", "string_match": {"exact": GRPC}}
    return [
        _refuse_by_status(
            refusal, _match(refusal, lease, exactly), COMPRESSOR, GRPC_WEB, cors.NAME
        ),
        _refuse_by_status(refusal, _match(refusal, lease, content_is_grpc())),
    ]


def _refuse_by_status(refusal: Refusal, match: Json, *unused: str) -> Json:
    """A route; `unused`: filters that its answers have no need of."""
    return {
        "match": match,
        "direct_response": {"status": 200},
        "response_headers_to_add": status_headers(REFUSALS[refusal.outcome]()),
        # Answered before the body is read: HTTP/2 has no need of it.
        **switched_off(transcoding.NAME, BUFFER, *unused),
    }


def _refuse_json(refusal: Refusal, lease: str) -> Json:
    answer = gateway_pb2.PurchaseResponse(outcome=refusal.outcome)  # type: ignore[arg-type]
    body = (
        json_format.MessageToJson(answer, always_print_fields_with_no_presence=True, indent=None)
        .replace(": ", ":")
        .replace(", ", ",")
    )
    return {
        "match": _match(refusal, lease, {"name": ":method", "string_match": {"exact": "POST"}}),
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [overwritten("content-type", "application/json")],
        # The body is read (the buffer stays), so that the connection can be used again. The answer
        # is too short to be compressed.
        **switched_off(transcoding.NAME, COMPRESSOR, GRPC_WEB),
    }
