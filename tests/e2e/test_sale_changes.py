"""An operator changes a sale, and every door knows."""

import uuid
from collections.abc import Iterator

import pytest

from seckill.client import Outcome
from seckill.v1 import events_pb2, gateway_pb2, inventory_pb2, order_admin_pb2, order_admin_pb2_grpc
from tests.kits.actions import CALL_S, Gateway, Inventory, buy, buyer_at, open_sale, purchase_token
from tests.kits.command import seckill
from tests.kits.edge import Edge
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import new_id, sale_terms
from tests.kits.inventory import attempt
from tests.kits.late_buyers import SOLD_OUT, purchase_late, sell_out, without_the_gateway
from tests.kits.mesh import Mesh
from tests.kits.operator import authorization
from tests.kits.order_events import event_about
from tests.kits.waiting import eventually

# They start an edge, or the command several times.
pytestmark = pytest.mark.timeout(600)
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


@pytest.fixture(scope="module")
def edge(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Envoy and its agent in front of the mesh."""
    with Edge(mesh.edge_settings, directory=tmp_path_factory.mktemp("edge")) as running:
        yield running


async def audit_of(mesh: Mesh, sku: str) -> order_admin_pb2.AuditSaleResponse:
    """What the ledger says of a sale."""
    async with mesh.channel("order") as channel:
        return await order_admin_pb2_grpc.OrderAdminServiceStub(channel).AuditSale(
            order_admin_pb2.AuditSaleRequest(sku=sku),
            metadata=authorization(mesh.issuer.token("olga", roles=["operator"])),
            timeout=CALL_S,
        )


async def test_who_was_told_sold_out_gets_a_unit_after_an_addition(
    mesh: Mesh, edge: Edge, gateway: Gateway, inventory: Inventory
) -> None:
    """At the edge, which refused by itself, at the gateway and at inventory: a unit for each."""
    sale = await sell_out(edge, mesh)
    refused = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    assert refused.json["outcome"] == SOLD_OUT
    at_edge, at_gateway = json_buyer(edge, mesh), buyer_at(gateway, mesh, new_id("buyer"))
    for buyer in (at_edge, at_gateway):
        assert (await buyer.buy(sale.sku)).outcome is Outcome.SOLD_OUT
    addition = inventory_pb2.AddStockRequest(sku=sale.sku, addition_id="more", units=3)
    olga = authorization(mesh.issuer.token("olga", roles=["operator"]))
    call_id = new_id("call")
    for added in (True, False):
        metadata = (*olga, ("x-request-id", call_id))
        answer = await inventory.AddStock(addition, metadata=metadata, timeout=CALL_S)
        assert answer.added is added
    record, headers = await event_about(mesh, sale.sku, kind="sale_changed")
    assert headers["ce_callid"] == call_id
    change = events_pb2.OrderEvent.FromString(record.value or b"").sale_change
    assert (change.operator, change.addition_id, change.after.total_units) == ("olga", "more", 4)
    for buyer in (at_edge, at_gateway):
        await eventually(
            lambda buyer=buyer: buyer.buy(sale.sku),  # type: ignore[misc]
            lambda seen: seen.outcome is Outcome.RESERVED,
        )
    third = inventory_pb2.ReserveRequest(sku=sale.sku, item=attempt())
    assert (await inventory.Reserve(third, timeout=CALL_S)).result.outcome == RESERVED
    late = await without_the_gateway(edge, lambda: purchase_late(edge, mesh, sale.sku))
    assert late.json["outcome"] == SOLD_OUT
    audit = await eventually(
        lambda: audit_of(mesh, sale.sku), lambda seen: seen.sale_sold_units == 4
    )
    assert audit.proven
    (change,) = audit.changes
    assert (change.operator, change.before.total_units, change.after.total_units) == ("olga", 1, 4)


async def test_the_event_of_an_order_names_the_buyers_call(mesh: Mesh, gateway: Gateway) -> None:
    """Behind gateway, inventory, Redis, Kafka and the database: the trace's id, word for word."""
    sku, user = await open_sale(mesh, sale_terms()), new_id("buyer")
    trace_id = uuid.uuid4().hex
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    bought = await gateway.Purchase(
        gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id=new_id("request")),
        metadata=(*mesh.identity(user), ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01")),
        timeout=CALL_S,
    )
    _, headers = await event_about(mesh, bought.order_no, kind="created")
    assert headers["ce_callid"] == trace_id


async def test_a_sale_is_changed_with_the_command(mesh: Mesh, gateway: Gateway) -> None:
    """Buyers see the new terms; what comes too late is refused by name; all of it is shown."""
    sku = await open_sale(mesh, sale_terms(starts_in_s=3_600, ends_in_s=7_200))
    changed = seckill(mesh, "sale", "change", sku, "--title", "New", "--price", "12.50")
    assert "12.50 CNY" in changed
    seckill(mesh, "sale", "change", sku, "--start", "now", "--end", "+2h")
    await eventually(
        lambda: buy(gateway, mesh, sku=sku, user=new_id("buyer")),
        lambda seen: seen.outcome is Outcome.RESERVED,
    )
    assert "unit_price" in seckill(mesh, "sale", "change", sku, "--price", "1", fails=True)
    added = seckill(mesh, "sale", "add-stock", sku, "--units", "5", "--id", "from-the-back")
    assert "addition from-the-back" in added
    assert "closed" in seckill(mesh, "sale", "close", sku)
    shown = seckill(mesh, "sale", "show", sku)
    for text in (
        "'A thing' -> 'New'",
        "9.90 CNY -> 12.50 CNY",
        "units 10 -> 15",
        "from-the-back",
        "state open -> closed",
        "olga",
    ):
        assert text in shown
