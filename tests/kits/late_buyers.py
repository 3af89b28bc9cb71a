"""Buyers after the last unit is sold, and whether Envoy or the gateway answers them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest

from seckill.client import Outcome
from seckill.status import DETAILS_KEY
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from seckill_cli.demo.buyer import Attempt, Buyer
from tests.kits.actions import CALL_S, open_sale
from tests.kits.edge import Answer, Edge
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

T = TypeVar("T")
SOLD_OUT = "PURCHASE_OUTCOME_SOLD_OUT"


@dataclass(frozen=True)
class SoldOut:
    """A sale whose one unit the winner has bought with their first attempt."""

    sku: str
    winner: Buyer


async def sell_out(edge: Edge, mesh: Mesh) -> SoldOut:
    """Open a sale of one unit, and sell it."""
    sale = SoldOut(await open_sale(mesh, sale_terms(units=1)), json_buyer(edge, mesh))
    assert (await sale.winner.buy(sale.sku)).outcome is Outcome.RESERVED
    return sale


async def purchase_late(edge: Edge, mesh: Mesh, sku: str) -> Answer:
    """Make a late buyer's attempt in JSON, without asking for a token first."""
    headers = dict(mesh.identity(new_id("buyer")))
    body = {"request_id": new_id("request")}
    return await edge.call("POST", f"/v1/sales/{sku}:purchase", body, headers=headers)


async def bought(edge: Edge, mesh: Mesh, sku: str) -> Attempt:
    """Return the attempt of the first late buyer who gets a unit."""
    return await eventually(
        lambda: json_buyer(edge, mesh).buy(sku), lambda seen: seen.outcome is Outcome.RESERVED
    )


async def until_inventory_is_found(edge: Edge) -> None:
    """Wait until inventory answers the gateway: after a restart that takes a moment."""

    async def ask() -> int:
        return (await edge.call("GET", "/v1/sales?page_size=1")).status

    await eventually(ask, lambda status: status == 200)


async def purchase_by_grpc(address: grpc.aio.Channel, mesh: Mesh, sku: str) -> grpc.aio.AioRpcError:
    """Make a late buyer's attempt in gRPC with the sku in metadata; it must be refused."""
    stub = gateway_pb2_grpc.GatewayServiceStub(address)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Purchase(
            gateway_pb2.PurchaseRequest(sku=sku, request_id=new_id("request")),
            metadata=(*mesh.identity(new_id("buyer")), ("seckill-sku", sku)),
            timeout=CALL_S,
        )
    return refused.value


async def without_the_gateway(edge: Edge, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until Envoy answers it by itself, and return that answer."""

    async def look() -> tuple[T, int]:
        before = await asyncio.to_thread(edge.passed_on)
        answer = await call()
        return answer, await asyncio.to_thread(edge.passed_on) - before

    answer, _ = await eventually(look, lambda seen: seen[1] == 0)
    return answer


async def until_the_gateway_is_asked(edge: Edge, call: Callable[[], Awaitable[T]]) -> None:
    """Repeat a call until it reaches the gateway again."""

    async def look() -> int:
        before = await asyncio.to_thread(edge.passed_on)
        await call()
        return await asyncio.to_thread(edge.passed_on) - before

    await eventually(look)


def details(error: grpc.aio.AioRpcError) -> bytes:
    """Return the encoded google.rpc.Status of an error."""
    found = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    assert isinstance(found, bytes)
    return found
