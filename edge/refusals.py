"""What Envoy refuses by itself, as routes: purchases of sales that sell nothing at this moment.

A purchase can be refused before its body is read if its sku is outside the body: in the path of
its JSON form, or in metadata `seckill-sku`. The answer is the one that the gateway would give. Each
refusal is tied to a lease: without it, or with another one, the request goes to the gateway.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

from google.protobuf import json_format

from edge import cors, transcoding
from edge.errors import GRPC
from edge.holders import holders_patterns
from edge.listener import COMPRESSOR, GRPC_WEB
from edge.routes import (
    NAME,
    base_routes,
    content_is_grpc,
    refuse,
    to_gateway,
)
from edge.settings import EdgeSettings
from edge.shed_routes import refuse_by_status, shed_routes
from edge.transcoding import SERVICE
from edge.typed import Json, extension, overwritten, switched_off, typed
from edge.web import FILE_BYTES_MAX, WebFile
from seckill.errors import REFUSALS, KillSwitchOn
from seckill.runtime.sale_view import SKU_METADATA, SaleView
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
        holders: patterns of `authorization`; the gateway must answer callers that match.
    """

    sku: str
    outcome: int
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusalPlan:
    """What the routes are made of.

    Attributes:
        files: the static files.
        halted: the kill switch: all purchases and purchase tokens are refused.
        sales: those that are refused, ordered by sku.
    """

    files: tuple[WebFile, ...] = ()
    halted: bool = False
    sales: tuple[Refusal, ...] = ()


class HolderPatterns:
    """Caches the patterns of each sale's holders while the holders are the same object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[set[str], tuple[str, ...] | None]] = {}

    def find(self, sku: str, holders: set[str]) -> tuple[str, ...] | None:
        """Return `holders_patterns(holders)`."""
        known = self._known.get(sku)
        if known is None or known[0] is not holders:
            known = self._known[sku] = (holders, holders_patterns(holders))
        return known[1]

    def keep(self, skus: Mapping[str, object]) -> None:
        """Forget all other sales."""
        self._known = {sku: self._known[sku] for sku in self._known.keys() & skus.keys()}


def plan_refusals(
    views: Mapping[str, SaleView], settings: EdgeSettings, patterns: HolderPatterns, *, now_s: float
) -> tuple[Refusal, ...]:
    """Return the sales that Envoy can refuse now, at most as many as the settings allow.

    Those with few holders come first: refusing them costs least.

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


def route_configuration(settings: EdgeSettings, plan: RefusalPlan, lease: str) -> Json:
    """Return all routes.

    Args:
        plan: what they are made of.
        lease: runtime key without which nothing is refused.
    """
    host: Json = {"name": NAME, "domains": ["*"], **cors.cors_policy(settings)}
    shed, base = shed_routes(settings), base_routes(settings, plan.files)
    if plan.halted:
        host["routes"] = [*_halted(lease), *base]
    elif plan.sales:
        host["matcher"] = _tree(settings, plan, lease, shed, base)
    else:
        host["routes"] = [*shed, *base]
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


def _tree(
    settings: EdgeSettings, plan: RefusalPlan, lease: str, shed: list[Json], base: list[Json]
) -> Json:
    """Look up by path, then by metadata: the cost does not grow with the number of sales.

    What is not refused of these sales are calls of holders, which are few, and not shed.
    """
    passed_on = to_gateway(settings, ANY)
    by_path_on = to_gateway(settings, ANY, by_path=True)
    by_path: dict[str, Json] = {
        f"/v1/sales/{refusal.sku}:purchase": _routes(
            [_refuse_json(settings, refusal, lease), by_path_on]
        )
        for refusal in plan.sales
    }
    by_sku = {
        refusal.sku: _routes([*_refuse_grpc(settings, refusal, lease), passed_on])
        for refusal in plan.sales
    }
    other_sale = _routes([*shed, passed_on])
    by_path[PURCHASE] = {"matcher": _lookup(SKU_METADATA, by_sku, otherwise=other_sale)}
    return _lookup(":path", by_path, otherwise=_routes([*shed, *base]))


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


def _refuse_grpc(settings: EdgeSettings, refusal: Refusal, lease: str) -> list[Json]:
    """Two routes: gRPC, most of a storm, past all filters but the rate limit; and gRPC-Web."""
    error = REFUSALS[refusal.outcome]()
    exactly: Json = {"name": "content-type", "string_match": {"exact": GRPC}}
    return [
        refuse_by_status(
            _match(refusal, lease, exactly), error, unused=(COMPRESSOR, GRPC_WEB, cors.NAME)
        ),
        refuse_by_status(
            _match(refusal, lease, content_is_grpc()), error, headers=cors.readable(settings)
        ),
    ]


def _refuse_json(settings: EdgeSettings, refusal: Refusal, lease: str) -> Json:
    answer = gateway_pb2.PurchaseResponse(outcome=refusal.outcome)  # type: ignore[arg-type]
    body = (
        json_format.MessageToJson(answer, always_print_fields_with_no_presence=True, indent=None)
        .replace(": ", ":")
        .replace(", ", ",")
    )
    return {
        "match": _match(refusal, lease, {"name": ":method", "string_match": {"exact": "POST"}}),
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [
            overwritten("content-type", "application/json"),
            *cors.readable(settings),
        ],
        # The body is read (the buffer stays), so that the connection can be used again. The answer
        # is too short to be compressed.
        **switched_off(transcoding.NAME, COMPRESSOR, GRPC_WEB),
    }
