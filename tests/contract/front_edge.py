"""A gateway wired as in production, small stages behind it, a real client in front of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from gateway.__main__ import Gateway, open_gateway
from gateway.settings import GatewaySettings
from seckill.dev_issuer import DevIssuer, load_or_create
from seckill.errors import DETAILS_KEY
from seckill.process import Process
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.contract.front_stages import Stages, running_stages
from tests.factories import new_id

CALL_S = 10.0

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Edge:
    """A gateway, what is behind it, and a client in front of it."""

    stages: Stages
    gateway: Gateway
    issuer: DevIssuer
    channel: grpc.aio.Channel
    stub: "gateway_pb2_grpc.GatewayServiceAsyncStub"
    stop: AsyncExitStack

    def identity(self, user: str) -> Metadata:
        """Metadata that says who calls."""
        return (("authorization", f"Bearer {self.issuer.token(user)}"),)

    async def token(self, sku: str, user: str) -> str:
        """A purchase token."""
        answer = await self.stub.IssuePurchaseToken(
            gateway_pb2.IssuePurchaseTokenRequest(sku=sku),
            metadata=self.identity(user),
            timeout=CALL_S,
        )
        return answer.purchase_token

    async def buy(
        self,
        sku: str,
        user: str,
        *,
        request_id: str = "",
        token: str = "",
        timeout_s: float = CALL_S,
    ) -> gateway_pb2.PurchaseResponse:
        """One press."""
        return await self.stub.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku,
                purchase_token=token or await self.token(sku, user),
                request_id=request_id or new_id("request"),
            ),
            metadata=self.identity(user),
            timeout=timeout_s,
        )


async def open_edge(stack: AsyncExitStack, directory: Path, front: str, **changes: Any) -> Edge:
    """Start everything on free ports; `changes` are settings."""
    stages = await stack.enter_async_context(running_stages())
    issuer = load_or_create(directory)
    target = f"dns:///127.0.0.1:{stages.port}"
    values: dict[str, Any] = {
        "profile": "development",
        "gateway_listen": "127.0.0.1:0",
        "gateway_front": front,
        "gateway_jwks": str(issuer.jwks_path),
        "gateway_jwt_issuer": issuer.issuer,
        "gateway_jwt_audience": issuer.audience,
        "gateway_token_keys": issuer.purchase_token_keys,
        "inventory_target": target,
        "order_target": target,
        "drain_timeout_s": 20.0,
        **changes,
    }
    inside = await stack.enter_async_context(AsyncExitStack())
    gateway = await open_gateway(GatewaySettings(**values), Process(inside))
    await asyncio.wait_for(gateway.sales.seen.wait(), CALL_S)
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(
            f"127.0.0.1:{gateway.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
    )
    stub = gateway_pb2_grpc.GatewayServiceStub(channel)
    return Edge(stages, gateway, issuer, channel, stub, inside)


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The error's detail messages by their type's name."""
    known = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RetryInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.QuotaFailure,
        )
    }
    found = {}
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for packed in status_pb2.Status.FromString(value).details:
                message = known[packed.TypeName()]()
                packed.Unpack(message)
                found[message.DESCRIPTOR.name] = message
    return found


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """How the call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
