"""Channels from one service to another: balanced, kept alive, with a circuit breaker and metrics.
The id of the call that is handled goes along, and its trace.

gRPC's own health checks are left off: in gRPC 1.85 a connection that ends while its health is first
asked for ends the whole process (grpc/grpc#37781). A replica that is not ready is not in DNS, and
one that fails leaves the balancing.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from seckill.runtime import tracing
from seckill.runtime.callers import stage_of_service
from seckill.runtime.mesh_channel import mesh_channel
from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.watched_calls import WatchedCalls

# Jittered by gRPC itself; retries happen at this layer only, and only for reads.
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# A failure costs a token and a success returns a tenth of one; while half of the tokens are gone
# nothing is retried. So a service that is down gets five extra calls, and one in trouble a tenth
# more.
_RETRY_BUDGET = {"maxTokens": 10, "tokenRatio": 0.1}

# A replica of which most calls of some seconds failed is not called for a while, which grows from
# time to time; never more than half of the replicas, and never the only one. Every status but OK
# is a failure here (gRFC A50). Keepalive finds a replica that stands still, too, only later.
_OUTLIER_DETECTION = {
    "interval": "2s",
    "baseEjectionTime": "5s",
    "maxEjectionTime": "25s",
    "maxEjectionPercent": 50,
    "failurePercentageEjection": {
        "threshold": 85,
        "enforcementPercentage": 100,
        "minimumHosts": 2,
        "requestVolume": 3,
    },
    "childPolicy": [{"round_robin": {}}],
}


def service_config(service: str, reads: Sequence[str]) -> str:
    """Return gRPC's service config as JSON; `reads` are the methods that may be retried."""
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"outlier_detection_experimental": _OUTLIER_DETECTION}],
        "retryThrottling": _RETRY_BUDGET,
    }
    if reads:
        names = [{"service": service, "method": method} for method in reads]
        config["methodConfig"] = [{"name": names, "retryPolicy": _RETRY_POLICY}]
    return json.dumps(config)


class _Watched(grpc.aio.UnaryUnaryClientInterceptor):
    """Has each unary call of the channel watched, and names it to the service."""

    def __init__(self, calls: WatchedCalls) -> None:
        self._calls = calls

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        method: Any = client_call_details.method  # bytes on some paths of grpc.aio, str on others
        path = method.decode() if isinstance(method, bytes) else method
        with self._calls.method(path).call(client_call_details.timeout) as watched:
            call = await continuation(_named(client_call_details), request)
            code = await call.code()
            failed = code is not grpc.StatusCode.OK
            watched.end(code, await call.trailing_metadata() if failed else None)
            return call


def _named(details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
    """Add what names the call that is handled, and its trace."""
    named = tracing.outgoing()
    if not named:
        return details
    return grpc.aio.ClientCallDetails(
        details.method,
        details.timeout,
        grpc.aio.Metadata(*(details.metadata or ()), *named),
        details.credentials,
        details.wait_for_ready,
    )


@asynccontextmanager
async def open_channel(
    target: str,
    *,
    service: str,
    mesh: MeshTls | None = None,
    reads: Sequence[str] = (),
    breaker: bool = True,
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to `service` at `target`; it connects on the first call.

    Args:
        target: gRPC's name of the server, e.g. "dns:///host:port".
        service: full name of the service, e.g. "seckill.v1.OrderService".
        mesh: the TLS between services; None is in clear. With it only the stage that serves
            `service` is spoken to.
        reads: methods that gRPC repeats after UNAVAILABLE; they have a breaker of their own.
        breaker: whether calls are refused while the service does not answer.
    """
    channel = mesh_channel(
        target,
        stage="" if mesh is None else stage_of_service(service),
        tls=mesh,
        options=[
            ("grpc.service_config", service_config(service, reads)),
            ("grpc.enable_retries", 1),
            # A replica that acknowledges bytes and answers nothing leaves the balancing within
            # 25 s. The ping has a timeout of its own, a minute unless it is set.
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.ping_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # Addresses are resolved again whenever a connection ends; gRPC would wait 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
        interceptors=[_Watched(WatchedCalls(service, reads, breaks=breaker))],
    )
    try:
        yield channel
    finally:
        await channel.close()
