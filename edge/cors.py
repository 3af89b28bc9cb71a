"""Which pages of other origins may call, and what of an answer they may read."""

from edge.settings import EdgeSettings
from edge.typed import Json, extension, overwritten, typed
from seckill.runtime.sale_view import SKU_METADATA

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
# Browsers ask again after this; none keeps an answer for longer than two hours.
KEPT_S = 7_200


def cors_filter(settings: EdgeSettings) -> list[Json]:
    """Return the filter; its policy is at the virtual host."""
    if not settings.origins:
        return []
    return [extension(NAME, "envoy.extensions.filters.http.cors.v3.Cors")]


def cors_policy(settings: EdgeSettings) -> Json:
    """Return what to add to the virtual host; nothing if no other origin may call.

    Credentials (cookies) are never allowed: a token alone says who calls.
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


def readable(settings: EdgeSettings) -> list[Json]:
    """Return headers for answers that routes give, which pages of other origins may read.

    The filter leaves such answers alone. They are the same for all callers and hold nothing of
    theirs, so any page may read them if those of some other origin may.
    """
    if not settings.origins:
        return []
    return [
        # Left out if the caller names no origin.
        overwritten("access-control-allow-origin", "%REQ(ORIGIN)%"),
        overwritten("access-control-expose-headers", ", ".join(READ)),
    ]
