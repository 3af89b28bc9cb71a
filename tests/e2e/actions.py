"""What buyers and operators do, in one call each."""

import uuid
from typing import TypeAlias

import grpc

from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    rollback_pb2_grpc,
    sale_pb2,
)
from tests.mesh import Mesh
from tests.waiting import eventually

Gateway: TypeAlias = "gateway_pb2_grpc.GatewayServiceAsyncStub"
Inventory: TypeAlias = "inventory_pb2_grpc.InventoryServiceAsyncStub"
Orders: TypeAlias = "order_pb2_grpc.OrderServiceAsyncStub"
Rollback: TypeAlias = "rollback_pb2_grpc.RollbackServiceAsyncStub"

CALL_S = 10.0


async def open_sale(mesh: Mesh, terms: sale_pb2.SaleTerms) -> str:
    """Create a sale; returns its sku."""
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_S
        )
    return terms.sku


async def purchase_token(gateway: Gateway, mesh: Mesh, *, sku: str, user: str) -> str:
    """A purchase token for this buyer."""
    answer = await gateway.IssuePurchaseToken(
        gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=mesh.identity(user), timeout=CALL_S
    )
    return answer.purchase_token


async def buy(
    gateway: Gateway,
    mesh: Mesh,
    *,
    sku: str,
    user: str,
    request_id: str = "",
    quantity: int = 1,
) -> gateway_pb2.PurchaseResponse:
    """Ask for a token, then press the button."""
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    return await gateway.Purchase(
        gateway_pb2.PurchaseRequest(
            sku=sku,
            quantity=quantity,
            purchase_token=token,
            request_id=request_id or str(uuid.uuid4()),
        ),
        metadata=mesh.identity(user),
        timeout=CALL_S,
    )


async def order_when_there(
    gateway: Gateway, mesh: Mesh, *, order_no: str, user: str
) -> order_pb2.Order:
    """The order, as soon as polling sees it."""

    async def look() -> order_pb2.Order | None:
        try:
            answer = await gateway.GetOrder(
                gateway_pb2.GatewayServiceGetOrderRequest(order_no=order_no),
                metadata=mesh.identity(user),
                timeout=CALL_S,
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return None
        return answer.order

    found = await eventually(look)
    assert found is not None
    return found
