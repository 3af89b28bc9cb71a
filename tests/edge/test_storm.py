"""When a sale has fallen Envoy answers by itself, as the gateway would."""

import grpc
import pytest

from seckill.errors import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.e2e.actions import CALL_S, open_sale
from tests.edge.buyer import grpc_web
from tests.edge.kit import Edge
from tests.edge.late import (
    RESERVED,
    SOLD_OUT,
    bought,
    details,
    press,
    press_by_grpc,
    sell_out,
    without_the_gateway,
)
from tests.factories import new_id, sale_terms
from tests.mesh import Mesh


async def test_json_is_refused_by_envoy_with_the_gateways_own_words(edge: Edge, mesh: Mesh) -> None:
    """The path names the sku: same status, same body, and no call behind Envoy."""
    sale = await sell_out(edge, mesh)
    refused = await without_the_gateway(edge, lambda: press(edge, mesh, sale.sku))
    # By the method's own path the sku stands in the body, which only the gateway reads.
    told = await edge.call(
        "POST",
        "/seckill.v1.GatewayService/Purchase",
        {"sku": sale.sku, "request_id": "press-1"},
        headers=dict(mesh.identity(new_id("buyer"))),
    )
    assert refused.json["outcome"] == SOLD_OUT
    assert (refused.status, refused.body) == (told.status, told.body)
    assert refused.headers["content-type"] == told.headers["content-type"]


async def test_grpc_is_refused_by_envoy_with_the_gateways_own_status(
    edge: Edge, mesh: Mesh
) -> None:
    """Metadata names the sku: code, message and details are those that the gateway gives."""
    sale = await sell_out(edge, mesh)
    async with edge.channel() as public, mesh.channel("gateway") as internal:
        refused = await without_the_gateway(edge, lambda: press_by_grpc(public, mesh, sale.sku))
        told = await press_by_grpc(internal, mesh, sale.sku)
    assert refused.code() is told.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused) == "SOLD_OUT"
    assert (refused.details(), details(refused)) == (told.details(), details(told))


async def test_grpc_web_is_refused_by_envoy_too(edge: Edge, mesh: Mesh) -> None:
    """The status stands in the headers, where the libraries look for it."""
    sale = await sell_out(edge, mesh)
    request = gateway_pb2.PurchaseRequest(sku=sale.sku, request_id="press-1")
    identity = dict(mesh.identity(new_id("buyer")))
    metadata = {**identity, "seckill-sku": sale.sku}
    message, trailers = await without_the_gateway(
        edge, lambda: grpc_web(edge, "Purchase", request, **metadata)
    )
    assert message == b""
    assert trailers["grpc-status"] == str(grpc.StatusCode.FAILED_PRECONDITION.value[0])


async def test_a_call_without_a_sku_in_metadata_always_gets_the_outcome(
    edge: Edge, mesh: Mesh
) -> None:
    """Plain gRPC callers see an answer with status OK, as ever."""
    sale = await sell_out(edge, mesh)
    await without_the_gateway(edge, lambda: press(edge, mesh, sale.sku))
    async with edge.channel() as channel:
        answer = await gateway_pb2_grpc.GatewayServiceStub(channel).Purchase(
            gateway_pb2.PurchaseRequest(sku=sale.sku, request_id="press-1"),
            metadata=mesh.identity(new_id("buyer")),
            timeout=CALL_S,
        )
    assert answer.outcome == inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT


async def test_a_winner_is_told_of_his_unit_while_all_others_are_refused(
    edge: Edge, mesh: Mesh
) -> None:
    """Same request, same answer; another press: ALREADY_PURCHASED with the number; as gRPC too."""
    sale = await sell_out(edge, mesh)
    await without_the_gateway(edge, lambda: press(edge, mesh, sale.sku))
    again = await sale.winner.press(sale.sku, request_id=sale.request_id)
    assert again.json == {"outcome": RESERVED, "orderNo": sale.order_no}
    twice = await sale.winner.press(sale.sku)
    assert twice.json["outcome"] == "PURCHASE_OUTCOME_ALREADY_PURCHASED"
    assert twice.json["orderNo"] == sale.order_no
    token = await sale.winner.token(sale.sku)
    async with edge.channel() as channel:
        answer = await gateway_pb2_grpc.GatewayServiceStub(channel).Purchase(
            gateway_pb2.PurchaseRequest(
                sku=sale.sku, request_id=sale.request_id, purchase_token=token
            ),
            metadata=(
                ("authorization", sale.winner.headers["authorization"]),
                ("seckill-sku", sale.sku),
            ),
            timeout=CALL_S,
        )
    assert answer.order_no == sale.order_no


async def test_a_unit_that_comes_back_is_sold_at_once(edge: Edge, mesh: Mesh) -> None:
    """The winner gives up: the refusal is lifted, the next buyer gets the unit, then it falls."""
    sale = await sell_out(edge, mesh)
    await without_the_gateway(edge, lambda: press(edge, mesh, sale.sku))
    await sale.winner.order_when_there(sale.order_no)
    given_up = await edge.call(
        "POST", f"/v1/orders/{sale.order_no}:cancel", {}, headers=sale.winner.headers
    )
    assert given_up.status == 200
    answer = await bought(edge, mesh, sale.sku)
    assert answer.json["orderNo"] != sale.order_no
    await without_the_gateway(edge, lambda: press(edge, mesh, sale.sku))


@pytest.mark.parametrize(
    ("state", "outcome", "reason"),
    [
        (sale_pb2.SALE_STATE_PAUSED, "PURCHASE_OUTCOME_PAUSED", "PAUSED"),
        (sale_pb2.SALE_STATE_CLOSED, "PURCHASE_OUTCOME_ENDED", "ENDED"),
    ],
)
async def test_other_flags_are_answered_by_envoy_too(
    edge: Edge, mesh: Mesh, state: "sale_pb2.SaleState.ValueType", outcome: str, reason: str
) -> None:
    """A sale that is paused or closed says so, in either form."""
    sku = await open_sale(mesh, sale_terms())
    async with mesh.channel("inventory") as channel:
        await inventory_pb2_grpc.InventoryServiceStub(channel).UpdateSale(
            inventory_pb2.UpdateSaleRequest(sku=sku, state=state), timeout=CALL_S
        )
    refused = await without_the_gateway(edge, lambda: press(edge, mesh, sku))
    assert refused.json == {"outcome": outcome, "orderNo": ""}
    async with edge.channel() as public:
        assert reason_of(await press_by_grpc(public, mesh, sku)) == reason


async def test_a_sale_that_has_not_begun_is_passed_on_when_it_begins(
    edge: Edge, mesh: Mesh
) -> None:
    """No message tells of that moment: the agent watches the clock."""
    sku = await open_sale(mesh, sale_terms(units=1, starts_in_s=5.0))
    refused = await without_the_gateway(edge, lambda: press(edge, mesh, sku))
    assert refused.json["outcome"] == "PURCHASE_OUTCOME_NOT_STARTED"
    await bought(edge, mesh, sku)
