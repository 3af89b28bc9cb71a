"""Where requests go: the gateway's methods, static files, and nothing else."""

from deploy.edge.errors import GRPC, json_body, overwritten, status_headers
from deploy.edge.settings import EdgeSettings
from deploy.edge.transcoding import SERVICE
from deploy.edge.typed import Json, seconds
from deploy.edge.web import WebFile, file_routes
from seckill.errors import NotImplementedYet, SeckillError
from seckill.sale_view import SKU_METADATA

NAME = "edge"
GATEWAY = "gateway"
# Routes that a gateway which dies or restarts may have refused without reading them.
RETRY: Json = {
    "retry_on": "connect-failure,refused-stream",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
}


def to_gateway(
    settings: EdgeSettings, match: Json, *, watching: bool = False, by_path: bool = False
) -> Json:
    """A route to the gateway.

    Args:
        watching: the answer may go on for long.
        by_path: the path names what is asked for, so metadata must not.
    """
    call_s = settings.edge_call_timeout_s
    longest_s = settings.edge_watch_timeout_s if watching else call_s
    action: Json = {
        "cluster": GATEWAY,
        # For a call that watches: no bound but those below.
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
    """The methods by their gRPC path, and by the paths of their JSON forms."""
    watch_json = {"safe_regex": {"regex": "/v1/orders/[^/]+:watch"}}
    return [
        to_gateway(settings, {"path": f"/{SERVICE}/WatchOrder"}, watching=True),
        to_gateway(settings, watch_json, watching=True, by_path=True),
        to_gateway(settings, {"prefix": f"/{SERVICE}/"}),
        to_gateway(settings, {"prefix": "/v1/"}, by_path=True),
    ]


def content_is_grpc() -> Json:
    """A header match: gRPC or gRPC-Web, whose answers are statuses and not bodies."""
    return {"name": "content-type", "string_match": {"prefix": GRPC}}


def refuse(match: Json, error: SeckillError, *, http_status: int) -> list[Json]:
    """Routes that answer with an error: gRPC by a status without a message, others as JSON."""
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
    """All routes of an edge that refuses nothing by itself."""
    nothing = refuse({"prefix": "/"}, NotImplementedYet("there is no such method"), http_status=404)
    return [
        *gateway_routes(settings),
        *file_routes(settings.edge_web_directory, files),
        *nothing,
    ]
