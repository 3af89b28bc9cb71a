"""Calls of BatchReserve over the channel on our own HTTP/2."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from seckill.runtime.http2.channel import UnaryMethod, open_http2_channel
from seckill.runtime.mesh_tls import MeshTls
from seckill.v1 import inventory_pb2

SERVICE = "seckill.v1.InventoryService"
PATH = f"/{SERVICE}/BatchReserve"
CALL_S = 20.0
REQUEST = inventory_pb2.BatchReserveRequest(sku="phone")
RESPONSE = inventory_pb2.BatchReserveResponse(remaining_units=7)

Method = UnaryMethod[inventory_pb2.BatchReserveResponse]


@asynccontextmanager
async def calling(
    target: str, *, breaker: bool = False, mesh: MeshTls | None = None
) -> AsyncIterator[Method]:
    """BatchReserve over a channel of its own."""
    async with open_http2_channel(target, service=SERVICE, breaker=breaker, mesh=mesh) as channel:
        yield channel.unary(PATH, inventory_pb2.BatchReserveResponse)


async def failure(
    method: Method,
    *,
    timeout_s: float = CALL_S,
    request: inventory_pb2.BatchReserveRequest = REQUEST,
) -> grpc.aio.AioRpcError:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(request, timeout=timeout_s)
    return caught.value
