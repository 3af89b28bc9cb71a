"""Which pages of other origins may call, and what of an answer they may read."""

from deploy.edge.settings import EdgeSettings
from deploy.edge.typed import Json, extension, typed
from seckill.sale_view import SKU_METADATA

NAME = "envoy.filters.http.cors"
SENT = (
    "authorization",
    "content-type",
    "grpc-timeout",
    SKU_METADATA,
    "x-grpc-web",
    "x-user-agent",
)
READ = ("grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after", "x-request-id")
# Browsers ask again after this; none keeps it for longer than two hours.
KEPT_S = 7_200


def cors_filter(settings: EdgeSettings) -> list[Json]:
    """The filter; its policy stands at the virtual host."""
    if not settings.origins:
        return []
    return [extension(NAME, "envoy.extensions.filters.http.cors.v3.Cors")]


def cors_policy(settings: EdgeSettings) -> Json:
    """What to add to the virtual host; nothing where no other origin may call.

    Credentials (cookies) are never allowed: a caller is who his token says.
    """
    if not settings.origins:
        return {}
    origins = [
        {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
        for origin in settings.origins
    ]
    policy = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=origins,
        allow_methods="GET, POST",
        allow_headers=", ".join(SENT),
        expose_headers=", ".join(READ),
        max_age=str(KEPT_S),
    )
    return {"typed_per_filter_config": {NAME: policy}}
