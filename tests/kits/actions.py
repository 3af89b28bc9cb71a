"""What buyers and operators of a mesh do, in one call each."""

from typing import TypeAlias

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
from seckill_cli.demo.buyer import Attempt, Buyer
from tests.kits.doors import DoorClient
from tests.kits.mesh import Mesh

Gateway: TypeAlias = "gateway_pb2_grpc.GatewayServiceAsyncStub"
Inventory: TypeAlias = "inventory_pb2_grpc.InventoryServiceAsyncStub"
Orders: TypeAlias = "order_pb2_grpc.OrderServiceAsyncStub"
Rollback: TypeAlias = "rollback_pb2_grpc.RollbackServiceAsyncStub"

CALL_S = 10.0


async def open_sale(mesh: Mesh, terms: sale_pb2.SaleTerms) -> str:
    """Create a sale, and return its sku."""
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).CreateSale(
            inventory_pb2.CreateSaleRequest(terms=terms), timeout=CALL_S
        )
    return terms.sku


async def purchase_token(gateway: Gateway, mesh: Mesh, *, sku: str, user: str) -> str:
    """Return a purchase token for this buyer."""
    answer = await gateway.IssuePurchaseToken(
        gateway_pb2.IssuePurchaseTokenRequest(sku=sku), metadata=mesh.identity(user), timeout=CALL_S
    )
    return answer.purchase_token


def buyer_at(door: object, mesh: Mesh, user: str) -> Buyer:
    """Return a simulated buyer at a door: a stub of the gateway, or another of tests.kits.doors."""
    return Buyer(
        DoorClient(door),
        user,
        mesh.issuer.token(user),
        patience_s=CALL_S,
        call_timeout_s=CALL_S,
    )


async def buy(
    door: object, mesh: Mesh, *, sku: str, user: str, request_id: str = "", quantity: int = 1
) -> Attempt:
    """Make one attempt as this buyer; it must be answered."""
    attempt = await buyer_at(door, mesh, user).buy(sku, quantity, request_id=request_id)
    assert attempt.outcome is not None, attempt.failure
    return attempt


async def order_when_there(
    door: object, mesh: Mesh, *, order_no: str, user: str
) -> order_pb2.Order:
    """Return one of this buyer's orders as soon as it can be read."""
    return await buyer_at(door, mesh, user).wait(order_no)
