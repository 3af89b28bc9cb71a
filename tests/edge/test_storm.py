"""After a sale is sold out Envoy answers by itself, as the gateway would."""

import grpc
import pytest

from seckill.client import Outcome
from seckill.status import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, inventory_pb2_grpc, sale_pb2
from tests.kits.actions import CALL_S, buyer_at, open_sale
from tests.kits.edge import Edge
from tests.kits.edge_buyer import grpc_web
from tests.kits.factories import new_id, sale_terms
from tests.kits.late_buyers import (
    SOLD_OUT,
    bought,
    details,
    purchase_by_grpc,
    purchase_late,
    sell_out,
    without_the_gateway,
)
from tests.kits.mesh import Mesh


async def test_json_is_refused_by_envoy_with_the_gateways_own_words(edge: Edge, mesh: Mesh) -> None:
    """The path names the sku: same status, same body, and no call behind Envoy."""
    sale = await sell_out(edge, mesh)
    refused = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    # By the method's own path the sku is in the body, which only the gateway reads.
    told = await edge.call(
        "POST",
        "/seckill.v1.GatewayService/Purchase",
        {"sku": sale.sku, "request_id": "attempt-1"},
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
        refused = await without_the_gateway(edge, lambda: purchase_by_grpc(public, mesh, sale.sku))
        told = await purchase_by_grpc(internal, mesh, sale.sku)
    assert refused.code() is told.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused) == "SOLD_OUT"
    assert (refused.details(), details(refused)) == (told.details(), details(told))


async def test_grpc_web_is_refused_by_envoy_too(edge: Edge, mesh: Mesh) -> None:
    """The status is in the headers, where the libraries look for it."""
    sale = await sell_out(edge, mesh)
    request = gateway_pb2.PurchaseRequest(sku=sale.sku, request_id="attempt-1")
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
    await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    async with edge.channel() as channel:
        answer = await gateway_pb2_grpc.GatewayServiceStub(channel).Purchase(
            gateway_pb2.PurchaseRequest(sku=sale.sku, request_id="attempt-1"),
            metadata=mesh.identity(new_id("buyer")),
            timeout=CALL_S,
        )
    assert answer.outcome == inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT


async def test_a_winner_is_told_of_their_unit_while_all_others_are_refused(
    edge: Edge, mesh: Mesh
) -> None:
    """Same request, same answer; another one: ALREADY_PURCHASED with the number; as gRPC too."""
    sale = await sell_out(edge, mesh)
    await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    winner = sale.winner
    request_id, order_no = winner.attempts[0].request_id, winner.order_no
    again = await winner.buy(sale.sku, request_id=request_id)
    assert (again.outcome, again.order_no) == (Outcome.RESERVED, order_no)
    another = await winner.buy(sale.sku)
    assert (another.outcome, another.order_no) == (Outcome.ALREADY_PURCHASED, order_no)
    async with edge.channel() as channel:
        # The client names the sku in metadata, too.
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        by_grpc = await buyer_at(stub, mesh, winner.user_id).buy(sale.sku, request_id=request_id)
    assert (by_grpc.outcome, by_grpc.order_no) == (Outcome.RESERVED, order_no)


async def test_a_unit_that_comes_back_is_sold_at_once(edge: Edge, mesh: Mesh) -> None:
    """The winner cancels: Envoy passes on, the next buyer gets the unit, then Envoy refuses."""
    sale = await sell_out(edge, mesh)
    await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    await sale.winner.wait()
    await sale.winner.cancel()
    assert (await bought(edge, mesh, sale.sku)).order_no != sale.winner.order_no
    await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))


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
    refused = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sku))
    assert refused.json == {"outcome": outcome, "orderNo": ""}
    async with edge.channel() as public:
        assert reason_of(await purchase_by_grpc(public, mesh, sku)) == reason


async def test_a_sale_that_has_not_started_is_passed_on_when_it_starts(
    edge: Edge, mesh: Mesh
) -> None:
    """No message announces that moment: the agent watches the clock."""
    sku = await open_sale(mesh, sale_terms(units=1, starts_in_s=5.0))
    refused = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sku))
    assert refused.json["outcome"] == "PURCHASE_OUTCOME_NOT_STARTED"
    await bought(edge, mesh, sku)
