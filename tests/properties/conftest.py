"""Fixtures: a whole mesh of its own, since what is sent to it closes sales and halts selling."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import Stores
from seckill.v1 import gateway_pb2_grpc
from tests.kits.actions import buy, open_sale, order_when_there, purchase_token
from tests.kits.any_caller import PROVIDERS, AnyCaller
from tests.kits.factories import sale_terms
from tests.kits.mesh import Mesh, prepared_stores

__all__ = ["prepared_stores"]
BUYER = "buyer-1"


@pytest.fixture(scope="package")
def mesh(prepared_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Start the four services, with payment providers and without rate limits."""
    settings = {
        "SECKILL_GATEWAY_RATE_IP": "0",
        "SECKILL_GATEWAY_RATE_USER": "0",
        "SECKILL_GATEWAY_RATE_ISSUE": "0",
        "SECKILL_ORDER_PAYMENT_PROVIDERS": json.dumps(PROVIDERS),
    }
    directory: Path = tmp_path_factory.mktemp("mesh-of-properties")
    with Mesh(prepared_stores, directory=directory, settings=settings) as running:
        yield running


async def _known(mesh: Mesh) -> dict[str, list[str]]:
    """Open a sale, buy in it, and return the names that lead further than random ones."""
    sku = await open_sale(mesh, sale_terms(units=1_000, limit=5))
    async with mesh.channel("gateway") as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        bought = await buy(gateway, mesh, sku=sku, user=BUYER, request_id="r-1")
        await order_when_there(gateway, mesh, order_no=bought.order_no, user=BUYER)
        return {
            "sku": [sku],
            "order_no": [bought.order_no],
            "user_id": [BUYER],
            "request_id": ["r-1", "r-2"],
            "provider": [provider["name"] for provider in PROVIDERS],
            "currency": ["CNY"],
            "purchase_token": [await purchase_token(gateway, mesh, sku=sku, user=BUYER)],
        }


@pytest.fixture(scope="package")
def caller(mesh: Mesh) -> Iterator[AnyCaller]:
    """Who sends requests of any kind to the mesh, with a sale and an order to name."""
    with AnyCaller(mesh, known=asyncio.run(_known(mesh)), buyer=BUYER) as opened:
        yield opened
