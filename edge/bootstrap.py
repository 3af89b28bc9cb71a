"""Envoy's whole configuration, but for routes and secrets, which are in files of their own."""

from pathlib import Path

from edge.lease_name import LAYER
from edge.limits import UNLIMITED, overload_manager
from edge.listener import public_listener
from edge.operators.listener import metrics_cluster
from edge.operators.methods import AGENT, INVENTORY, ORDER, ROLLBACK
from edge.routes import GATEWAY
from edge.settings import EdgeSettings
from edge.tls import to_stage
from edge.typed import Json, address_of, extension, seconds, typed

ADMIN = "admin"
ADMIN_SOCKET = "admin.sock"
AGENT_SOCKET = "agent.sock"
LISTENERS_FILE = "listeners.json"
STATS = "stats"
# Calls on one connection to the gateway; it takes more (SECKILL_GATEWAY_STREAMS_MAX).
GATEWAY_STREAMS_MAX = 128


def bootstrap(settings: EdgeSettings) -> Json:
    """Return the file that Envoy is started with."""
    return {
        "node": {"id": "edge", "cluster": "edge"},
        # On a socket in the edge's folder: access to that folder is access to the administration.
        "admin": {"address": _pipe(settings, ADMIN_SOCKET)},
        "static_resources": {
            "listeners": [public_listener(settings), _stats_listener(settings)],
            "clusters": [
                _gateway(settings),
                _agent(settings),
                _admin(settings),
                *_for_operators(settings),
            ],
        },
        **_operators(settings),
        "layered_runtime": {"layers": [_static_layer(), _lease_layer()]},
        "overload_manager": overload_manager(settings),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _kept_stats()}}},
    }


def _pipe(settings: EdgeSettings, name: str) -> Json:
    return {"pipe": {"path": str(settings.edge_directory / name)}}


def _operators(settings: EdgeSettings) -> Json:
    """The operators' listener: from a file that the agent replaces, as it knows the keys."""
    if not settings.edge_operator_listen:
        return {}
    path = listeners_path(settings)
    source = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    config = {"resource_api_version": "V3", "path_config_source": source}
    return {"dynamic_resources": {"lds_config": config}}


def listeners_path(settings: EdgeSettings) -> Path:
    """Return the path of the file with the operators' listener."""
    return settings.edge_directory / "listeners" / LISTENERS_FILE


def _for_operators(settings: EdgeSettings) -> list[Json]:
    """The clusters that only operators' calls go to."""
    if not settings.edge_operator_listen:
        return []
    services = {
        INVENTORY: settings.inventory_target,
        ORDER: settings.order_target,
        ROLLBACK: settings.rollback_target,
    }
    return [
        *(
            {
                **_replicas(name, target),
                **to_stage(settings, name),
                "lb_policy": "LEAST_REQUEST",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": _http2(),
            }
            for name, target in services.items()
        ),
        *(
            {**_replicas(metrics_cluster(name), f"dns:///{address}"), "connect_timeout": "1s"}
            for name, address in settings.metrics_sources.items()
        ),
    ]


def _gateway(settings: EdgeSettings) -> Json:
    return {
        **_replicas(GATEWAY, settings.gateway_target),
        **to_stage(settings, GATEWAY),
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": 1_048_576,
        "circuit_breakers": {
            "thresholds": [
                _breaker("DEFAULT", settings.edge_purchases_max),
                _breaker("HIGH", settings.edge_calls_max),
            ]
        },
        "typed_extension_protocol_options": _http2(
            max_concurrent_streams=GATEWAY_STREAMS_MAX,
            connection_keepalive={"interval": "10s", "timeout": "2s"},
        ),
        # A replica that drains or has lost its stores says so; the others take its calls.
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_interval": "0.25s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        # Without a healthy replica calls are refused at once, not tried on all.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def _replicas(name: str, target: str) -> Json:
    """Return the part of a cluster that says where a service's replicas are."""
    if target.startswith("ipv4:"):
        return _cluster(name, *map(address_of, target.removeprefix("ipv4:").split(",")))
    return {
        **_cluster(name, address_of(target.removeprefix("dns:///"))),
        # All addresses of the name.
        "cluster_type": extension(
            "envoy.clusters.dns",
            "envoy.extensions.clusters.dns.v3.DnsCluster",
            dns_refresh_rate="2s",
            respect_dns_ttl=False,
        ),
    }


def _breaker(priority: str, calls_max: int) -> Json:
    """Return the bounds of the calls of a priority (routes.py): in flight, and queued for a stream.

    A call that has no stream yet is in flight, too, so the queue needs no bound of its own.
    """
    return {
        "priority": priority,
        "max_connections": 1_024,
        "max_pending_requests": calls_max,
        "max_requests": calls_max,
        "retry_budget": {"budget_percent": {"value": 10}, "min_retry_concurrency": 10},
    }


def _agent(settings: EdgeSettings) -> Json:
    return {
        **_cluster(AGENT, _pipe(settings, AGENT_SOCKET)),
        "connect_timeout": "0.25s",
        "typed_extension_protocol_options": _http2(),
    }


def _admin(settings: EdgeSettings) -> Json:
    return {
        **_cluster(ADMIN, _pipe(settings, ADMIN_SOCKET)),
        "connect_timeout": "0.25s",
    }


def _cluster(name: str, *addresses: Json) -> Json:
    endpoints = {"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}
    return {
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [endpoints]},
    }


def _http2(**options: object) -> Json:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    explicit = {"http2_protocol_options": options}
    return {name: typed(name, explicit_http_config=explicit)}


def _stats_listener(settings: EdgeSettings) -> Json:
    """The listener of readiness and metrics, and of nothing else of the administration."""
    routes = [
        {"match": {"path": path}, "route": {"cluster": ADMIN, "prefix_rewrite": behind}}
        for path, behind in (("/ready", "/ready"), ("/metrics", "/stats/prometheus"))
    ]
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=STATS,
        route_config={"virtual_hosts": [{"name": STATS, "domains": ["*"], "routes": routes}]},
        http_filters=[
            extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")
        ],
        request_timeout=seconds(settings.edge_request_timeout_s),
        request_headers_timeout=seconds(settings.edge_headers_timeout_s),
    )
    return {
        "name": STATS,
        "address": address_of(settings.edge_stats_listen),
        "filter_chains": [{"filters": [manager]}],
        # Probes get through when the public has taken all connections.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


def _static_layer() -> Json:
    """Runtime settings that no other part of the configuration has a field for."""
    return {
        "name": "static",
        "static_layer": {
            # Calls of one connection that are started before those of another get their turn: with
            # 10 a refusal costs a fifth more. (A client that opens calls only to reset them is
            # disconnected after some hundreds, by Envoy's own default.)
            "http": {"max_requests_per_io_cycle": 100},
            # Patterns of holders exceed Envoy's default limit; holders.py bounds them.
            "re2": {"max_program_size": {"error_level": UNLIMITED, "warn_level": UNLIMITED}},
        },
    }


def _lease_layer() -> Json:
    """The layer that the agent grants over its socket; it expires unless renewed (lease.py)."""
    agent = {
        "envoy_grpc": {
            "cluster_name": AGENT,
            "retry_policy": {
                "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"},
            },
        }
    }
    return {
        "name": LAYER,
        "rtds_layer": {
            "name": LAYER,
            "rtds_config": {
                "resource_api_version": "V3",
                # Envoy also serves without an agent.
                "initial_fetch_timeout": "0.5s",
                "api_config_source": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [agent],
                },
            },
        },
    }


def _kept_stats() -> list[Json]:
    """The metrics that are exported: those of the few things that matter, of Envoy's thousand."""
    prefixes = ("http.edge.", "cluster.gateway.", "listener.", "overload.", "server.", "runtime.")
    return [{"prefix": prefix} for prefix in prefixes]
