"""The public port: TLS or not, HTTP/1.1 and 2, and the filters that each request passes."""

from edge import transcoding
from edge.access_log import access_log
from edge.cors import cors_filter
from edge.errors import local_replies
from edge.limits import body_limit, http1, http2, rate_limits
from edge.routes import NAME
from edge.settings import EdgeSettings
from edge.tls import transport_socket
from edge.typed import Json, address_of, extension, seconds

ROUTES_FILE = "routes.json"
COMPRESSOR = "envoy.filters.http.compressor"
GRPC_WEB = "envoy.filters.http.grpc_web"
CONNECTION_BUFFER_BYTES = 65_536
COMPRESSED = ["application/json", "text/html", "text/css", "text/javascript", "image/svg+xml"]
COMPRESSED_BYTES_MIN = 1_024


def public_listener(settings: EdgeSettings) -> Json:
    """Return the listener that the settings describe."""
    return {
        "name": NAME,
        "address": address_of(settings.edge_listen),
        **secured(settings, _connection_manager(settings)),
        "enable_reuse_port": True,
    }


def secured(settings: EdgeSettings, manager: Json) -> Json:
    """Return the part of a listener that says who gets to a connection manager: TLS or not."""
    filters = [manager]
    chains: list[Json] = []
    listener_filters: list[Json] = []
    if settings.edge_tls != "off":
        chain: Json = {"filters": filters, "transport_socket": transport_socket(settings)}
        if settings.edge_tls == "optional":
            # The first bytes of a connection tell which of the two it is.
            chain["filter_chain_match"] = {"transport_protocol": "tls"}
            listener_filters.append(
                extension(
                    "envoy.filters.listener.tls_inspector",
                    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                )
            )
        chains.append(chain)
    if settings.edge_tls != "required":
        chains.append({"filters": filters})
    return {
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER_BYTES,
        "listener_filters": listener_filters,
        # A silent connection is closed.
        "listener_filters_timeout": seconds(settings.edge_headers_timeout_s),
        "continue_on_listener_filters_timeout": False,
        "filter_chains": chains,
    }


def _connection_manager(settings: EdgeSettings) -> Json:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=NAME,
        codec_type="AUTO",
        rds={
            "route_config_name": NAME,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": str(settings.edge_directory / "routes" / ROUTES_FILE),
                    "watched_directory": {"path": str(settings.edge_directory / "routes")},
                },
            },
        },
        http_filters=_http_filters(settings),
        local_reply_config=local_replies(),
        access_log=access_log(settings),
        **trust(settings),
        **time_limits(settings),
        max_request_headers_kb=settings.edge_headers_kb_max,
        http_protocol_options=http1(),
        http2_protocol_options=http2(settings),
    )


def trust(settings: EdgeSettings) -> Json:
    """Which claims of a caller are trusted: none but those of trusted proxies on the address."""
    return {
        # x-forwarded-for is kept, and the peer's own address appended.
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.edge_trusted_hops,
        # No address is internal, so x-envoy-… headers of callers are always removed.
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
        },
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "always_set_request_id_in_response": True,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True},
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "server_name": "seckill",
    }


def time_limits(settings: EdgeSettings) -> Json:
    """How long a client may take for each of its parts of a call."""
    return {
        "request_headers_timeout": seconds(settings.edge_headers_timeout_s),
        "request_timeout": seconds(settings.edge_request_timeout_s),
        "stream_idle_timeout": seconds(settings.edge_idle_timeout_s),
        "drain_timeout": seconds(settings.drain_timeout_s),
        "delayed_close_timeout": "1s",
        "common_http_protocol_options": {
            "idle_timeout": seconds(settings.edge_idle_timeout_s),
            # Clients reconnect now and then, so that they spread over new replicas.
            "max_connection_duration": seconds(settings.connection_age_max_s),
            "max_headers_count": settings.edge_headers_max,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
    }


def _http_filters(settings: EdgeSettings) -> list[Json]:
    """The filters in the order in which a request passes them."""
    return [
        # First, though it costs every call a look for `origin`: what CORS has not seen come in has
        # none of its headers, and a page could not read why it is refused.
        *cors_filter(settings),
        # The cheapest refusal before all that only answered calls need.
        *rate_limits(settings),
        extension(GRPC_WEB, "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
        compressor(),
        body_limit(settings),
        *transcoding.transcoder(settings),
        extension(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
        ),
    ]


def compressor() -> Json:
    """Return the filter that compresses answers."""
    return extension(
        COMPRESSOR,
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        response_direction_config={
            "common_config": {
                "min_content_length": COMPRESSED_BYTES_MIN,
                "content_type_matcher": [{"prefix": prefix} for prefix in COMPRESSED],
            },
        },
        compressor_library=extension(
            "gzip",
            "envoy.extensions.compression.gzip.compressor.v3.Gzip",
            compression_level="COMPRESSION_LEVEL_3",
        ),
    )
