"""A request id that comes again with something else is refused by the name of what differs."""

import grpc

from seckill.status import reason_of
from seckill.v1 import gateway_pb2, inventory_pb2
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, details, failure

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


async def test_another_quantity_or_sku_under_the_same_id_is_refused(rig: GatewayRig) -> None:
    """INVALID_ARGUMENT naming it; the first attempt keeps its answer, and 0 units mean 1."""
    inventory = rig.services.inventory
    sku, other = (inventory.put(sale_terms(units=10, limit=3)) for _ in range(2))

    async def buy(sku: str, *, quantity: int, user: str = "buyer") -> gateway_pb2.PurchaseResponse:
        request = gateway_pb2.PurchaseRequest(
            sku=sku,
            quantity=quantity,
            purchase_token=await rig.token(sku, user),
            request_id="attempt-1",
        )
        return await rig.stub.Purchase(request, metadata=rig.identity(user), timeout=CALL_S)

    first = await buy(sku, quantity=1)
    assert first.outcome == RESERVED
    for call, field in ((buy(sku, quantity=3), "quantity"), (buy(other, quantity=1), "sku")):
        error = await failure(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(error) == "INVALID_FIELD"
        bad = details(error)["BadRequest"]
        assert [violation.field for violation in bad.field_violations] == [field]
    assert await buy(sku, quantity=0) == first
    assert (await buy(other, quantity=2, user="another")).outcome == RESERVED
