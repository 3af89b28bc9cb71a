"""Wait for what a service says of its health, by the stream that tells each change."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.kits.waiting import TIMEOUT_S

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
]


async def until_health(
    address: str,
    wanted: health_pb2.HealthCheckResponse.ServingStatus = SERVING,
    *,
    of: str = "",
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Wait until the service at `address` says `wanted` of `of`: a service's name, "" for all.

    It need not listen yet.

    Raises:
        AssertionError: it did not say so within `timeout_s`; names what it said last.
    """
    request = health_pb2.HealthCheckRequest(service=of)
    seen = health_pb2.HealthCheckResponse.UNKNOWN
    try:
        async with (
            asyncio.timeout(timeout_s),
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, wait_for_ready=True)
            async for answer in watch:
                seen = answer.status
                if seen == wanted:
                    watch.cancel()
                    return
    except TimeoutError:
        pass
    name = health_pb2.HealthCheckResponse.ServingStatus.Name
    raise AssertionError(f"{address} is {name(seen)} after {timeout_s} s, not {name(wanted)}")
