"""Late buyers, and whether Envoy or the gateway answers them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
import pytest

from seckill.errors import DETAILS_KEY
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.e2e.actions import CALL_S, open_sale
from tests.edge.buyer import JsonBuyer
from tests.edge.kit import Answer, Edge
from tests.factories import new_id, sale_terms
from tests.mesh import Mesh
from tests.waiting import eventually

T = TypeVar("T")
SOLD_OUT = "PURCHASE_OUTCOME_SOLD_OUT"
RESERVED = "PURCHASE_OUTCOME_RESERVED"


@dataclass(frozen=True)
class SoldOut:
    """A sale whose one unit is gone."""

    sku: str
    winner: JsonBuyer
    request_id: str
    order_no: str


async def sell_out(edge: Edge, mesh: Mesh) -> SoldOut:
    """A sale of one unit, and who has got it."""
    sku = await open_sale(mesh, sale_terms(units=1))
    winner, request_id = JsonBuyer(edge, mesh, new_id("buyer")), new_id("request")
    answer = await winner.press(sku, request_id=request_id)
    assert answer.json["outcome"] == RESERVED
    return SoldOut(sku, winner, request_id, answer.json["orderNo"])


async def press(edge: Edge, mesh: Mesh, sku: str) -> Answer:
    """A late buyer's press, as JSON; he did not even ask for a token."""
    headers = dict(mesh.identity(new_id("buyer")))
    body = {"request_id": new_id("request")}
    return await edge.call("POST", f"/v1/sales/{sku}:purchase", body, headers=headers)


async def bought(edge: Edge, mesh: Mesh, sku: str) -> Answer:
    """The answer of the first late buyer who gets a unit."""
    return await eventually(
        lambda: JsonBuyer(edge, mesh, new_id("buyer")).press(sku),
        lambda seen: seen.json["outcome"] == RESERVED,
    )


async def until_inventory_is_found(edge: Edge) -> None:
    """Returns once inventory answers the gateway: after a restart that takes a moment."""

    async def ask() -> int:
        return (await edge.call("GET", "/v1/sales?page_size=1")).status

    await eventually(ask, lambda status: status == 200)


async def press_by_grpc(address: grpc.aio.Channel, mesh: Mesh, sku: str) -> grpc.aio.AioRpcError:
    """The same in gRPC with the sku in metadata; it is refused, and by whom does not matter."""
    stub = gateway_pb2_grpc.GatewayServiceStub(address)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Purchase(
            gateway_pb2.PurchaseRequest(sku=sku, request_id=new_id("request")),
            metadata=(*mesh.identity(new_id("buyer")), ("seckill-sku", sku)),
            timeout=CALL_S,
        )
    return refused.value


async def without_the_gateway(edge: Edge, call: Callable[[], Awaitable[T]]) -> T:
    """The answer of the first such call that Envoy gives by itself."""

    async def look() -> tuple[T, int]:
        before = await asyncio.to_thread(edge.passed_on)
        answer = await call()
        return answer, await asyncio.to_thread(edge.passed_on) - before

    answer, _ = await eventually(look, lambda seen: seen[1] == 0)
    return answer


async def until_the_gateway_is_asked(edge: Edge, call: Callable[[], Awaitable[T]]) -> None:
    """Returns once such a call reaches the gateway again."""

    async def look() -> int:
        before = await asyncio.to_thread(edge.passed_on)
        await call()
        return await asyncio.to_thread(edge.passed_on) - before

    await eventually(look)


def details(error: grpc.aio.AioRpcError) -> bytes:
    """The encoded google.rpc.Status."""
    found = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    assert isinstance(found, bytes)
    return found
