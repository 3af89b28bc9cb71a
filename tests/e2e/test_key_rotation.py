"""The key that signs purchase tokens is changed under buyers, as the runbook says."""

import asyncio
import base64
import secrets
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from seckill.status import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.actions import open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import ALL_SECURE, Mesh

CALL_S = 10.0
VARIABLE = "SECKILL_GATEWAY_TOKEN_KEYS"


def new_key(name: str) -> str:
    """A key as the setting has it."""
    return f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


async def issue(mesh: Mesh, sku: str, user: str) -> str:
    """Return a purchase token of the gateway that runs."""
    async with mesh.channel("gateway") as channel:
        answer = await gateway_pb2_grpc.GatewayServiceStub(channel).IssuePurchaseToken(
            gateway_pb2.IssuePurchaseTokenRequest(sku=sku),
            metadata=mesh.identity(user),
            timeout=CALL_S,
        )
    return answer.purchase_token


async def refusal(mesh: Mesh, sku: str, user: str, token: str) -> str:
    """Why the gateway that runs does not take a purchase token; empty if it does."""
    async with mesh.channel("gateway") as channel:
        try:
            await gateway_pb2_grpc.GatewayServiceStub(channel).Purchase(
                gateway_pb2.PurchaseRequest(
                    sku=sku, quantity=1, purchase_token=token, request_id=new_id("attempt")
                ),
                metadata=mesh.identity(user),
                timeout=CALL_S,
            )
        except grpc.aio.AioRpcError as error:
            return reason_of(error) or error.code().name
    return ""


async def roll(mesh: Mesh, *keys: str) -> None:
    """Replace the gateway by one with these keys."""
    mesh.change("gateway", {VARIABLE: ",".join(keys)})
    await asyncio.to_thread(mesh.terminate, "gateway")
    await asyncio.to_thread(mesh.restart, "gateway")


@pytest.mark.slow
async def test_the_key_of_purchase_tokens_is_rotated_and_nobody_is_refused(
    prepared_stores: Stores, tmp_path: Path
) -> None:
    """Behind, in front, alone: what was issued before each roll is taken after it."""
    old, new = new_key("old"), new_key("new")
    life = {VARIABLE: old, "SECKILL_GATEWAY_TOKEN_TTL_S": "60"}
    with Mesh(prepared_stores, directory=tmp_path, settings=life, secure=ALL_SECURE) as mesh:
        sku = await open_sale(mesh, sale_terms(units=10))
        users = [new_id("b") for _ in range(5)]
        first = await issue(mesh, sku, users[0])
        await roll(mesh, old, new)
        assert await refusal(mesh, sku, users[0], first) == ""
        second = await issue(mesh, sku, users[1])
        unused = await issue(mesh, sku, users[4])
        await roll(mesh, new, old)
        assert await refusal(mesh, sku, users[1], second) == ""
        third = await issue(mesh, sku, users[2])
        fourth = await issue(mesh, sku, users[3])
        await roll(mesh, new)
        assert await refusal(mesh, sku, users[2], third) == ""
        # The old one is gone: what it has signed is taken no more.
        assert await refusal(mesh, sku, users[4], unused) == "PURCHASE_TOKEN_INVALID"
        assert await refusal(mesh, sku, users[3], fourth) == ""
