"""What a caller may use of Envoy: bytes, calls, connections, memory, and how often."""

from edge.settings import EdgeSettings
from edge.transcoding import SERVICE
from edge.typed import Json, extension, typed

BUFFER = "envoy.filters.http.buffer"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
MEBI = 1024 * 1024
# Bytes that a client may send ahead, on each call and on all calls of a connection.
STREAM_WINDOW_BYTES = 65_536
CONNECTION_WINDOW_BYTES = 1_048_576
# Buckets are filled this often at most.
FILLS_PER_SECOND = 20
UNLIMITED = 2**32 - 1
# The two kinds of calls that an address has a bucket for, and the paths of the second.
SALES, ORDERS = "sales", "orders"
OF_ORDERS = f"/v1/(?:orders|payments)/.*|/{SERVICE}/(?:Get|Watch|Pay|Cancel)Order"


def body_limit(settings: EdgeSettings) -> Json:
    """Return the filter that reads a whole request before it is passed on; too long ones are 413.

    All methods take one message, so no caller waits for an answer before everything is sent.
    """
    return extension(
        BUFFER,
        "envoy.extensions.filters.http.buffer.v3.Buffer",
        max_request_bytes=settings.edge_body_bytes_max,
    )


def http1() -> Json:
    """Return the options of HTTP/1.1: strict."""
    return {"accept_http_10": False, "allow_chunked_length": False}


def http2(settings: EdgeSettings) -> Json:
    """Return the options of HTTP/2: bounds on a connection's streams, windows and frames."""
    return {
        "max_concurrent_streams": settings.edge_streams_max,
        "initial_stream_window_size": STREAM_WINDOW_BYTES,
        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
        "max_outbound_frames": 10_000,
        "max_outbound_control_frames": 1_000,
        "max_consecutive_inbound_frames_with_empty_payload": 1,
        "connection_keepalive": {"interval": "30s", "timeout": "10s"},
    }


def rate_limits(settings: EdgeSettings) -> list[Json]:
    """Return the token buckets for all calls and for each address; none if both are off."""
    if not settings.edge_rate_all and not settings.edge_rate_ip:
        return []
    by_address: Json = {}
    if settings.edge_rate_ip:
        by_address = {
            "rate_limits": [_address_within(SALES), _address_within(ORDERS)],
            "descriptors": [
                {
                    # Without a value: each value gets a bucket of its own.
                    "entries": [
                        {"key": "header_match", "value": kind},
                        {"key": "masked_remote_address"},
                    ],
                    "token_bucket": _bucket(settings.edge_rate_ip, settings.edge_burst_ip),
                }
                for kind in (SALES, ORDERS)
            ],
            "max_dynamic_descriptors": settings.edge_addresses_max,
        }
    all_calls = (
        _bucket(settings.edge_rate_all, settings.edge_burst_all)
        if settings.edge_rate_all
        else _bucket(UNLIMITED // FILLS_PER_SECOND * FILLS_PER_SECOND, UNLIMITED)
    )
    return [
        extension(
            RATE_LIMIT,
            "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            stat_prefix="edge",
            token_bucket=all_calls,
            filter_enabled=_always("edge.rate_limit_enabled"),
            filter_enforced=_always("edge.rate_limit_enforced"),
            rate_limited_as_resource_exhausted=True,
            **by_address,
        )
    ]


def _address_within(kind: str) -> Json:
    """An address as the name of a bucket, of calls of one kind alone.

    Who shares an address with a crowd (a provider's, an office's) can still see and pay an order.
    """
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": OF_ORDERS}}}
    return {
        "actions": [
            {
                "header_value_match": {
                    "descriptor_value": kind,
                    "expect_match": kind == ORDERS,
                    "headers": [path],
                }
            },
            # IPv6 by its /64: a provider gives each customer one.
            {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}},
        ]
    }


def _bucket(rate_per_s: int, burst: int) -> Json:
    if rate_per_s % FILLS_PER_SECOND:
        fill, interval = rate_per_s, "1s"
    else:
        fill, interval = rate_per_s // FILLS_PER_SECOND, f"{1 / FILLS_PER_SECOND:.3f}s"
    return {"max_tokens": burst, "tokens_per_fill": fill, "fill_interval": interval}


def _always(runtime_key: str) -> Json:
    return {"default_value": {"numerator": 100}, "runtime_key": runtime_key}


def overload_manager(settings: EdgeSettings) -> Json:
    """Return what Envoy sheds, in turn, as its heap fills, and its bound on connections."""
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(
                "envoy.resource_monitors.fixed_heap",
                "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=settings.edge_heap_max_mb * MEBI,
            ),
            extension(
                "envoy.resource_monitors.global_downstream_max_connections",
                "envoy.extensions.resource_monitors.downstream_connections.v3"
                ".DownstreamConnectionsConfig",
                max_active_downstream_connections=settings.edge_connections_max,
            ),
        ],
        "actions": [
            _at("envoy.overload_actions.shrink_heap", 0.85),
            {
                **_scaled("envoy.overload_actions.reduce_timeouts", 0.80, 0.95),
                "typed_config": typed(
                    "envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
                    timer_scale_factors=[
                        {
                            "timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE",
                            "min_timeout": "2s",
                        }
                    ],
                ),
            },
            _scaled("envoy.overload_actions.reset_high_memory_stream", 0.85, 0.95),
            _at("envoy.overload_actions.disable_http_keepalive", 0.90),
            _at("envoy.overload_actions.stop_accepting_requests", 0.95),
            _at("envoy.overload_actions.stop_accepting_connections", 0.98),
        ],
        # Streams that hold less than this are not reset to free memory.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 16},
    }


def _at(name: str, fill: float) -> Json:
    trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": fill}}
    return {"name": name, "triggers": [trigger]}


def _scaled(name: str, start: float, full: float) -> Json:
    trigger = {
        "name": "envoy.resource_monitors.fixed_heap",
        "scaled": {"scaling_threshold": start, "saturation_threshold": full},
    }
    return {"name": name, "triggers": [trigger]}
