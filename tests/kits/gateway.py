"""A gateway wired as in production, small services behind it, a real client in front of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from gateway.__main__ import Gateway, open_gateway
from gateway.rules import GateRules
from gateway.rules_feed import RulesFeed
from gateway.settings import GatewaySettings
from seckill.runtime.dev_issuer import DevIssuer, load_or_create
from seckill.runtime.process import Process
from seckill.status import DETAILS_KEY
from seckill.v1 import challenge_pb2, gateway_pb2, gateway_pb2_grpc
from tests.kits.factories import new_id
from tests.kits.gateway_services import Services, running_services
from tests.kits.waiting import Signal

CALL_S = 10.0

Metadata = tuple[tuple[str, str], ...]


@dataclass
class GatewayRig:
    """A gateway, what is behind it, and a client in front of it."""

    services: Services
    gateway: Gateway
    issuer: DevIssuer
    channel: grpc.aio.Channel
    stub: "gateway_pb2_grpc.GatewayServiceAsyncStub"
    stop: AsyncExitStack

    def identity(self, user: str, **claims: object) -> Metadata:
        """Metadata that says who calls; `claims` are further ones of their JWT."""
        return (("authorization", f"Bearer {self.issuer.token(user, more=claims)}"),)

    async def rule(self) -> None:
        """Announce the rules that the test has set, and wait until they are in force."""
        revision = self.services.rules.announce()
        await rules_in_force(self.gateway.rules, revision)

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
        """Make one attempt."""
        return await self.stub.Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sku,
                purchase_token=token or await self.token(sku, user),
                request_id=request_id or new_id("request"),
            ),
            metadata=self.identity(user),
            timeout=timeout_s,
        )


async def open_rig(
    stack: AsyncExitStack, directory: Path, front: str, **changes: Any
) -> GatewayRig:
    """Start everything on free ports; `changes` are settings."""
    services = await stack.enter_async_context(running_services())
    issuer = load_or_create(directory)
    target = f"dns:///127.0.0.1:{services.port}"
    values: dict[str, Any] = {
        "profile": "development",
        "gateway_listen": "127.0.0.1:0",
        "gateway_front": front,
        "gateway_inventory_channel": front,
        "gateway_jwks": str(issuer.jwks_path),
        "gateway_jwt_issuer": issuer.issuer,
        "gateway_jwt_audience": issuer.audience,
        "gateway_token_keys": issuer.purchase_token_keys,
        "gateway_sandbox_payments": True,
        "inventory_target": target,
        "order_target": target,
        "drain_timeout_s": 20.0,
        **changes,
    }
    inside = await stack.enter_async_context(AsyncExitStack())
    gateway = await open_gateway(GatewaySettings(**values), Process(inside, service="gateway"))
    await asyncio.wait_for(gateway.sales.seen.wait(), CALL_S)
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(
            f"127.0.0.1:{gateway.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
    )
    stub = gateway_pb2_grpc.GatewayServiceStub(channel)
    return GatewayRig(services, gateway, issuer, channel, stub, inside)


async def rules_in_force(feed: RulesFeed, revision: int, *, timeout_s: float = CALL_S) -> GateRules:
    """Wait until rules of this revision, or a later one, are in force; return them."""
    changed = Signal()
    feed.on_change(lambda _: changed.notify())
    await changed.until(lambda: feed.rules.revision >= revision, timeout_s=timeout_s)
    return feed.rules


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The error's detail messages by their type's name."""
    known = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RetryInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.QuotaFailure,
            challenge_pb2.Challenge,
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
