"""The routes that refuse a share of all purchases, by runtime values that the agent sets.

Each route refuses the calls whose random number, which is the same for all routes, is below its own
share; so with shares that grow from route to route each takes as many as the others, and tells them
another delay. While nothing is shed a route costs a look at a runtime value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edge import cors, transcoding
from edge.errors import (
    GRPC,
    OVERLOAD_DELAYS_S,
    SHED_STATUS,
    json_body,
    retry_after,
    status_headers,
)
from edge.lease_name import SHED
from edge.limits import BUFFER, RATE_LIMIT
from edge.listener import COMPRESSOR, GRPC_WEB
from edge.routes import content_is_grpc
from edge.settings import EdgeSettings
from edge.transcoding import SERVICE
from edge.typed import Json, overwritten, switched_off
from seckill.errors import Overloaded, SeckillError

MILLION = 1_000_000
BY_GRPC = f"/{SERVICE}/(?:Purchase|IssuePurchaseToken)"
BY_JSON = f"{BY_GRPC}|/v1/sales/[^/]+:(?:purchase|issuePurchaseToken)"
BY_POST: Json = {"name": ":method", "string_match": {"exact": "POST"}}
EXACTLY_GRPC: Json = {"name": "content-type", "string_match": {"exact": GRPC}}


def shed_values(share: float) -> Mapping[str, Any]:
    """Return the runtime values that let this share of purchases through."""
    if share >= 1:
        return {}
    count = len(OVERLOAD_DELAYS_S)
    return {
        _key(place): {
            "numerator": round((1 - share) * MILLION * (place + 1) / count),
            "denominator": "MILLION",
        }
        for place in range(count)
    }


def shed_routes(settings: EdgeSettings) -> list[Json]:
    """Return the routes, which are to come before all others."""
    if settings.edge_shed == "off":
        return []
    routes: list[Json] = []
    readable = cors.readable(settings)
    for place, delay_s in enumerate(OVERLOAD_DELAYS_S):
        error = Overloaded()
        error.retry_after_s = delay_s
        routes += [
            # Most of a crowd past all filters; then gRPC-Web.
            refuse_by_status(
                _match(place, BY_GRPC, EXACTLY_GRPC),
                error,
                unused=(RATE_LIMIT, COMPRESSOR, GRPC_WEB, cors.NAME),
            ),
            refuse_by_status(
                _match(place, BY_GRPC, content_is_grpc()),
                error,
                headers=readable,
                unused=(RATE_LIMIT,),
            ),
            {
                # Pages of other origins ask first, by another method, whether they may.
                "match": _match(place, BY_JSON, BY_POST),
                "direct_response": {
                    "status": SHED_STATUS,
                    "body": {"inline_string": json_body(error)},
                },
                "response_headers_to_add": [
                    overwritten("content-type", "application/json"),
                    *retry_after(error),
                    *readable,
                ],
                # The body is read (the buffer stays), so that the connection can be used again.
                **switched_off(transcoding.NAME, COMPRESSOR, GRPC_WEB, RATE_LIMIT),
            },
        ]
    return routes


def refuse_by_status(
    match: Json,
    error: SeckillError,
    *,
    headers: Sequence[Json] = (),
    unused: Sequence[str] = (),
) -> Json:
    """Return a route that answers in gRPC and gRPC-Web.

    Args:
        headers: of the answer, beside the status.
        unused: filters that its answers do not need.
    """
    return {
        "match": match,
        "direct_response": {"status": 200},
        "response_headers_to_add": [*status_headers(error), *headers],
        # Answered before the body is read, which HTTP/2 allows.
        **switched_off(transcoding.NAME, BUFFER, *unused),
    }


def _match(place: int, paths: str, *headers: Json) -> Json:
    fraction = {"default_value": {"numerator": 0}, "runtime_key": _key(place)}
    return {
        "safe_regex": {"regex": paths},
        "headers": list(headers),
        "runtime_fraction": fraction,
    }


def _key(place: int) -> str:
    return f"{SHED}_{place}"
