"""Envoy's whole configuration; routes and secrets stand in files of their own."""

from deploy.edge.lease_name import LAYER
from deploy.edge.limits import UNLIMITED, overload_manager
from deploy.edge.listener import public_listener
from deploy.edge.routes import GATEWAY
from deploy.edge.settings import EdgeSettings
from deploy.edge.typed import Json, address_of, extension, seconds, typed

AGENT = "agent"
ADMIN = "admin"
ADMIN_SOCKET = "admin.sock"
AGENT_SOCKET = "agent.sock"
STATS = "stats"
# Of the gateway: below the calls that it takes on one connection (SECKILL_GATEWAY_STREAMS_MAX).
GATEWAY_STREAMS_MAX = 128


def bootstrap(settings: EdgeSettings) -> Json:
    """The file that Envoy is started with."""
    return {
        "node": {"id": "edge", "cluster": "edge"},
        # On a socket in our own folder: who may read that folder may ask and command Envoy.
        "admin": {"address": _pipe(settings, ADMIN_SOCKET)},
        "static_resources": {
            "listeners": [public_listener(settings), _stats_listener(settings)],
            "clusters": [_gateway(settings), _agent(settings), _admin(settings)],
        },
        "layered_runtime": {"layers": [_static_layer(), _lease_layer()]},
        "overload_manager": overload_manager(settings),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _kept_stats()}}},
    }


def _pipe(settings: EdgeSettings, name: str) -> Json:
    return {"pipe": {"path": str(settings.edge_directory / name)}}


def _gateway(settings: EdgeSettings) -> Json:
    address = settings.gateway_target.removeprefix("dns:///")
    return {
        **_cluster(GATEWAY, address_of(address)),
        # All addresses of the name: the replicas.
        "cluster_type": extension(
            "envoy.clusters.dns",
            "envoy.extensions.clusters.dns.v3.DnsCluster",
            dns_refresh_rate="2s",
            respect_dns_ttl=False,
        ),
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": 1_048_576,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1_024,
                    "max_pending_requests": settings.edge_calls_max,
                    "max_requests": settings.edge_calls_max,
                    "retry_budget": {
                        "budget_percent": {"value": 10},
                        "min_retry_concurrency": 10,
                    },
                }
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
        # Where no replica is healthy, calls are refused at once rather than tried on all.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
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


def _cluster(name: str, address: Json) -> Json:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
    }


def _http2(**options: object) -> Json:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    explicit = {"http2_protocol_options": options}
    return {name: typed(name, explicit_http_config=explicit)}


def _stats_listener(settings: EdgeSettings) -> Json:
    """Readiness and metrics, and nothing else of the administration."""
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
        # Probes get through where the public has taken all connections.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


def _static_layer() -> Json:
    """What no other part of the configuration can say."""
    return {
        "name": "static",
        "static_layer": {
            # One connection's calls are begun in turn with those of others, so many at a time: with
            # 10 at a time a refusal costs a fifth more. (Who opens calls only to reset them is
            # disconnected after some hundreds, by Envoy's own default.)
            "http": {"max_requests_per_io_cycle": 100},
            # Patterns of holders are larger than Envoy thinks wise; holders.py bounds them.
            "re2": {"max_program_size": {"error_level": UNLIMITED, "warn_level": UNLIMITED}},
        },
    }


def _lease_layer() -> Json:
    """What the agent grants, over its socket; it ends by itself unless renewed (lease.py)."""
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
                # Without an agent Envoy serves all the same.
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
    """Metrics of the few things that matter: Envoy has a thousand."""
    prefixes = ("http.edge.", "cluster.gateway.", "listener.", "overload.", "server.", "runtime.")
    return [{"prefix": prefix} for prefix in prefixes]
