"""The operators' listener: static files for everyone, methods for operators alone.

Envoy itself verifies the JWT and its role, because not every method of the services behind it does:
inside the mesh the network says who may call them.
"""

from collections.abc import Mapping

from edge import transcoding
from edge.errors import MEANINGS, local_replies
from edge.limits import BUFFER, body_limit, http1, http2
from edge.listener import compressor, secured, time_limits, trust
from edge.operators.config import config_route, policy
from edge.operators.log import CLAIMS, JWT, LUA, keep_request, operators_log
from edge.operators.methods import Method, contracts, methods, service_names
from edge.routes import RETRY, refuse
from edge.settings import EdgeSettings
from edge.typed import Json, address_of, extension, seconds, switched_off
from edge.web import CONSOLE, FILE_BYTES_MAX, WebFile, file_routes
from seckill.errors import (
    DependencyUnavailable,
    IdentityInvalid,
    IdentityMissing,
    NotAllowed,
    NotImplementedYet,
    SeckillError,
)
from seckill.runtime.identity import LEEWAY_S
from seckill.runtime.roles import OPERATOR_ROLE
from seckill.validation import USER_ID_MAX

NAME = "operators"
RBAC = "envoy.filters.http.rbac"
METRICS_TIMEOUT_S = 5.0
UNAUTHENTICATED_HTTP = 401
# What Envoy's own refusals mean here.
MEANINGS_HERE: Mapping[int, SeckillError] = {
    **MEANINGS,
    401: IdentityInvalid(),
    # Also what Envoy says of another audience.
    403: NotAllowed(f"the JWT must name the audience, and list the role {OPERATOR_ROLE}"),
    502: DependencyUnavailable("the service does not answer"),
    503: DependencyUnavailable("the service does not answer"),
}
# Filters that answers of Envoy's own need not pass.
FOR_METHODS = (transcoding.NAME, JWT, RBAC, BUFFER, LUA)


def metrics_cluster(name: str) -> str:
    """Return the name of the cluster of a source of metrics."""
    return f"metrics-{name}"


def operator_listener(settings: EdgeSettings, keys: str, files: tuple[WebFile, ...]) -> Json:
    """Return the listener.

    Args:
        keys: JWKS document of those who sign operators' tokens.
        files: of the console.
    """
    return {
        "name": NAME,
        "address": address_of(settings.edge_operator_listen),
        **secured(settings, _connection_manager(settings, keys, files)),
        # Operators get through when the public has taken all connections, or the memory.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


def _connection_manager(settings: EdgeSettings, keys: str, files: tuple[WebFile, ...]) -> Json:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=NAME,
        codec_type="AUTO",
        route_config={
            "name": NAME,
            "virtual_hosts": [
                {"name": NAME, "domains": ["*"], "routes": _routes(settings, files)},
            ],
            "max_direct_response_body_size_bytes": FILE_BYTES_MAX,
        },
        http_filters=_http_filters(settings, keys),
        local_reply_config=local_replies(MEANINGS_HERE),
        access_log=operators_log(settings),
        **trust(settings),
        **time_limits(settings),
        max_request_headers_kb=settings.edge_headers_kb_max,
        http_protocol_options=http1(),
        http2_protocol_options=http2(settings),
    )


def _http_filters(settings: EdgeSettings, keys: str) -> list[Json]:
    """The filters in the order in which a request passes them."""
    return [
        compressor(),
        _identity(settings, keys),
        _role(),
        body_limit(settings),
        keep_request(),
        extension(
            transcoding.NAME,
            "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            proto_descriptor_bin=contracts(),
            services=service_names(),
            # POST /<service>/<method>, the message as the body.
            auto_mapping=True,
            convert_grpc_status=True,
            match_incoming_request_route=True,
            print_options=transcoding.PRINTED,
            request_validation_options=transcoding.REFUSED,
        ),
        extension(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
        ),
    ]


def _identity(settings: EdgeSettings, keys: str) -> Json:
    """The filter that verifies the JWT, by the rules of seckill.runtime.identity."""
    provider = {
        "issuer": settings.order_operator_jwt_issuer,
        "audiences": [settings.order_operator_jwt_audience],
        "subjects": {"safe_regex": {"regex": f"[!-~]{{1,{USER_ID_MAX}}}"}},
        "require_expiration": True,
        "clock_skew_seconds": int(LEEWAY_S),
        "local_jwks": {"inline_string": keys},
        # Never from the address: that is in logs.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        # The services verify it once more, and write down who called.
        "forward": True,
        "payload_in_metadata": CLAIMS,
    }
    return extension(
        JWT,
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={CLAIMS: provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": CLAIMS}}],
    )


def _role() -> Json:
    """The filter that wants the role in the JWT's claim `roles`."""
    matcher = {
        "filter": JWT,
        "path": [{"key": CLAIMS}, {"key": "roles"}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": OPERATOR_ROLE}}}},
    }
    principal = {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
    policy = {"permissions": [{"any": True}], "principals": [principal]}
    return extension(
        RBAC,
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        rules={"action": "ALLOW", "policies": {OPERATOR_ROLE: policy}},
    )


def _routes(settings: EdgeSettings, files: tuple[WebFile, ...]) -> list[Json]:
    """Files, a word for those without a token, the methods, metrics, and nothing else."""
    anonymous = {"name": "authorization", "present_match": False}
    pages = file_routes(settings.edge_operator_web_directory, files, policy=policy(settings))
    nobody = refuse(
        {"prefix": "/", "headers": [anonymous]}, IdentityMissing(), http_status=UNAUTHENTICATED_HTTP
    )
    nothing = refuse({"prefix": "/"}, NotImplementedYet("there is no such method"), http_status=404)
    return [
        *map(_by_envoy, (_to_console(), config_route(settings, files), *pages, *nobody)),
        *map(_to_method, methods()),
        *map(_to_metrics, settings.metrics_sources),
        # For operators alone, too: nobody else learns what there is.
        *({**route, **switched_off(transcoding.NAME)} for route in nothing),
    ]


def _to_console() -> Json:
    return {
        "match": {"path": "/"},
        "redirect": {"path_redirect": f"/{CONSOLE}", "response_code": "FOUND"},
    }


def _by_envoy(route: Json) -> Json:
    """Return a route that Envoy answers to every caller."""
    return {**route, **switched_off(*FOR_METHODS)}


def _to_method(method: Method) -> Json:
    return {
        "match": {
            "path": method.path,
            "headers": [
                {"name": ":method", "string_match": {"exact": "POST"}},
                # Not gRPC: the log has requests that people can read.
                {"name": "content-type", "string_match": {"prefix": "application/json"}},
            ],
        },
        "route": {
            "cluster": method.cluster,
            "timeout": seconds(method.timeout_s),
            "idle_timeout": seconds(method.timeout_s),
            "retry_policy": RETRY,
        },
    }


def _to_metrics(name: str) -> Json:
    reads = {"name": ":method", "string_match": {"exact": "GET"}}
    return {
        "match": {"path": f"/metrics/{name}", "headers": [reads]},
        "route": {
            "cluster": metrics_cluster(name),
            "prefix_rewrite": "/metrics",
            "timeout": seconds(METRICS_TIMEOUT_S),
        },
        # What the source needs not know.
        "request_headers_to_remove": ["authorization"],
        **switched_off(transcoding.NAME, LUA),
    }
