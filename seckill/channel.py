"""Channels from one stage to the next: balanced, health-checked, with keepalive and metrics."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from seckill.telemetry import client_metrics

# Jittered by gRPC itself; retries happen at this layer only, and only for reads.
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_RETRY_BUDGET = {"maxTokens": 100, "tokenRatio": 0.1}


def service_config(service: str, reads: Sequence[str]) -> str:
    """gRPC service config as JSON; `reads` are the methods of `service` that may be retried."""
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
        "retryThrottling": _RETRY_BUDGET,
    }
    if reads:
        names = [{"service": service, "method": method} for method in reads]
        config["methodConfig"] = [{"name": names, "retryPolicy": _RETRY_POLICY}]
    return json.dumps(config)


class _ClientMetrics(grpc.aio.UnaryUnaryClientInterceptor):
    """Counts each unary call of the channel."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        method: Any = client_call_details.method  # bytes on some paths of grpc.aio, str on others
        path = method.decode() if isinstance(method, bytes) else method
        metrics = client_metrics.method(path, streaming=False)
        with metrics.call() as outcome:
            metrics.sent.inc()
            call = await continuation(client_call_details, request)
            outcome.code = await call.code()
            if outcome.code is grpc.StatusCode.OK:
                metrics.received.inc()
            return call


@asynccontextmanager
async def open_channel(
    target: str, *, service: str, reads: Sequence[str] = ()
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `service` at `target` ("dns:///host:port"); connects on the first call."""
    channel = grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.service_config", service_config(service, reads)),
            ("grpc.enable_retries", 1),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
        interceptors=[_ClientMetrics()],
    )
    try:
        yield channel
    finally:
        await channel.close()
