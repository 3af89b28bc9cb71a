"""Channels from one stage to the next: balanced, health-checked, with keepalive, a breaker and
metrics.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from seckill.breaker import Breaker, is_answer
from seckill.telemetry import client_metrics

# Jittered by gRPC itself; retries happen at this layer only, and only for reads.
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
# A failure costs a token and a success returns a tenth of one; with half of the tokens gone nothing
# is retried. So a stage that fails gets five calls more than it is asked for, and one in trouble a
# tenth more.
_RETRY_BUDGET = {"maxTokens": 10, "tokenRatio": 0.1}


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


class _Watched(grpc.aio.UnaryUnaryClientInterceptor):
    """Counts each unary call of the channel, and lets none through that has no prospect."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        method: Any = client_call_details.method  # bytes on some paths of grpc.aio, str on others
        path = method.decode() if isinstance(method, bytes) else method
        self._breaker.pass_call()
        metrics = client_metrics.method(path, streaming=False)
        with metrics.call() as outcome:
            metrics.sent.inc()
            call = await continuation(client_call_details, request)
            outcome.code = await call.code()
            answered = outcome.code is grpc.StatusCode.OK
            if answered:
                metrics.received.inc()
            else:
                answered = is_answer(await call.trailing_metadata())
            timeout_s = client_call_details.timeout
            self._breaker.ended(outcome.code, answered=answered, timeout_s=timeout_s)
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
        interceptors=[_Watched(Breaker(service.rpartition(".")[2]))],
    )
    try:
        yield channel
    finally:
        await channel.close()
