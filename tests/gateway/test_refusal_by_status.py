"""Callers who name their sku in metadata are refused by a status, on either front."""

import grpc
import pytest

from seckill.status import reason_of
from seckill.v1 import gateway_pb2, inventory_pb2, sale_pb2
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, failure
from tests.kits.waiting import eventually

SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
LIMIT_EXCEEDED = inventory_pb2.PURCHASE_OUTCOME_LIMIT_EXCEEDED


async def named(rig: GatewayRig, sku: str, user: str) -> gateway_pb2.PurchaseResponse:
    """An attempt that names its sku in metadata."""
    return await rig.stub.Purchase(
        gateway_pb2.PurchaseRequest(
            sku=sku, purchase_token=await rig.token(sku, user), request_id=new_id("request")
        ),
        metadata=(*rig.identity(user), ("seckill-sku", sku)),
        timeout=CALL_S,
    )


async def test_a_refusal_is_a_status_by_flag_and_by_reservation(rig: GatewayRig) -> None:
    """The same reason whether the flag or the script said it; others get the outcome as ever."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms(units=1))
    assert (await named(rig, sku, "winner")).order_no
    for _ in range(2):
        error = await failure(named(rig, sku, new_id("buyer")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(error) == "SOLD_OUT"
        assert (await rig.buy(sku, new_id("buyer"))).outcome == SOLD_OUT

        async def flag_is_up() -> bool:
            view = rig.gateway.sales.get(sku)
            return view is not None and view.holders is not None

        await eventually(flag_is_up)
    # Who holds a unit is told of it, not refused.
    assert (await named(rig, sku, "winner")).order_no


@pytest.mark.parametrize(
    ("state", "starts_in_s", "ends_in_s", "reason"),
    [
        (sale_pb2.SALE_STATE_PAUSED, -1.0, 3600.0, "PAUSED"),
        (sale_pb2.SALE_STATE_CLOSED, -1.0, 3600.0, "ENDED"),
        (sale_pb2.SALE_STATE_OPEN, 1800.0, 3600.0, "NOT_STARTED"),
    ],
)
async def test_each_refusal_has_its_reason(
    rig: GatewayRig,
    state: "sale_pb2.SaleState.ValueType",
    starts_in_s: float,
    ends_in_s: float,
    reason: str,
) -> None:
    """Paused, over, not begun: told apart by ErrorInfo."""
    inventory = rig.services.inventory
    terms = sale_terms(starts_in_s=starts_in_s, ends_in_s=ends_in_s)
    sku = inventory.put(terms, announce=False)
    inventory.sales[sku].state = state
    inventory.announce(sku)

    async def known() -> bool:
        view = rig.gateway.sales.get(sku)
        return view is not None and view.holders is not None

    await eventually(known)
    assert reason_of(await failure(named(rig, sku, new_id("buyer")))) == reason
