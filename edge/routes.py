"""The routes: to the gateway's methods, to static files, and nowhere else."""

from edge.errors import GRPC, json_body, status_headers
from edge.settings import EdgeSettings
from edge.transcoding import NAME as TRANSCODER
from edge.transcoding import SERVICE
from edge.typed import Json, overwritten, seconds, switched_off
from edge.web import WebFile, file_routes, policy_with
from seckill.errors import NotImplementedYet, SeckillError
from seckill.runtime.sale_view import SKU_METADATA

NAME = "edge"
GATEWAY = "gateway"
# Where pages learn what time it is.
CLOCK = "/v1/clock"
# Methods about orders, but for WatchOrder.
OF_ORDERS = ("GetOrder", "PayOrder", "CancelOrder", "ReceivePaymentCallback")
# Tried on another replica: requests that a stopping gateway has refused without reading them.
RETRY: Json = {
    "retry_on": "connect-failure,refused-stream",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
}


def to_gateway(
    settings: EdgeSettings,
    match: Json,
    *,
    of_orders: bool = False,
    watching: bool = False,
    by_path: bool = False,
) -> Json:
    """Return a route to the gateway.

    Args:
        of_orders: the call is about an order, and has connections and breakers of its own, so that
            what has been bought can be seen and paid for whatever crowd still tries to buy.
        watching: the answer is a stream that may last for long.
        by_path: the path names the sale or order, so metadata must not.
    """
    call_s = settings.edge_call_timeout_s
    longest_s = settings.edge_watch_timeout_s if watching else call_s
    action: Json = {
        "cluster": GATEWAY,
        "priority": "HIGH" if of_orders else "DEFAULT",
        # A call that watches has no bound but those below.
        "timeout": "0s" if watching else seconds(call_s),
        "idle_timeout": seconds(longest_s),
        # A caller's own deadline (grpc-timeout) ends it earlier, never later.
        "max_stream_duration": {
            "max_stream_duration": seconds(longest_s),
            "grpc_timeout_header_max": seconds(longest_s),
        },
        "retry_policy": RETRY,
    }
    removed = {"request_headers_to_remove": [SKU_METADATA]} if by_path else {}
    return {"match": match, "route": action, **removed}


def gateway_routes(settings: EdgeSettings) -> list[Json]:
    """Return the routes of the methods, by their gRPC paths and their JSON paths."""
    watch_json = {"safe_regex": {"regex": "/v1/orders/[^/]+:watch"}}
    return [
        to_gateway(settings, {"path": f"/{SERVICE}/WatchOrder"}, of_orders=True, watching=True),
        to_gateway(settings, watch_json, of_orders=True, watching=True, by_path=True),
        *(
            to_gateway(settings, {"path": f"/{SERVICE}/{method}"}, of_orders=True)
            for method in OF_ORDERS
        ),
        to_gateway(settings, {"prefix": "/v1/orders/"}, of_orders=True, by_path=True),
        to_gateway(settings, {"prefix": "/v1/payments/"}, of_orders=True, by_path=True),
        to_gateway(settings, {"prefix": f"/{SERVICE}/"}),
        to_gateway(settings, {"prefix": "/v1/"}, by_path=True),
    ]


def clock_route() -> Json:
    """Return the route that tells the time: Unix seconds, to the millisecond, in `x-time`.

    A page counts down to a sale's start by it, as visitors' clocks are wrong, and `date` has whole
    seconds. The gateway is not asked.
    """
    return {
        "match": {"path": CLOCK},
        "direct_response": {"status": 204},
        "response_headers_to_add": [
            overwritten("x-time", "%START_TIME(%s.%3f)%"),
            overwritten("cache-control", "no-store"),
        ],
        **switched_off(TRANSCODER),
    }


def content_is_grpc() -> Json:
    """Return the header match of gRPC and gRPC-Web, whose errors are statuses, not bodies."""
    return {"name": "content-type", "string_match": {"prefix": GRPC}}


def refuse(match: Json, error: SeckillError, *, http_status: int) -> list[Json]:
    """Return routes that answer with an error: gRPC with a status, others with JSON."""
    grpc_match = {**match, "headers": [*match.get("headers", ()), content_is_grpc()]}
    return [
        {
            "match": grpc_match,
            "direct_response": {"status": 200},
            "response_headers_to_add": status_headers(error),
        },
        {
            "match": match,
            "direct_response": {"status": http_status, "body": {"inline_string": json_body(error)}},
            "response_headers_to_add": [overwritten("content-type", "application/json")],
        },
    ]


def base_routes(settings: EdgeSettings, files: tuple[WebFile, ...]) -> list[Json]:
    """Return all routes of an edge that refuses nothing by itself."""
    nothing = refuse({"prefix": "/"}, NotImplementedYet("there is no such method"), http_status=404)
    policy = policy_with(settings.attestation_origins)
    return [
        clock_route(),
        *gateway_routes(settings),
        *file_routes(settings.edge_web_directory, files, policy=policy),
        *nothing,
    ]
