"""A unit bought through the edge's one port, in each of the ways that the public has."""

import ssl

import grpc
import pytest

from seckill.client import Outcome
from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2, order_pb2
from tests.kits.actions import CALL_S, Gateway, buy, open_sale
from tests.kits.edge import SERVICE, Edge
from tests.kits.edge_buyer import grpc_web, json_buyer
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.mesh import Mesh

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


async def test_json_buys_polls_and_pays(edge: Edge, mesh: Mesh) -> None:
    """A page's calls in JSON: look at the sale, fetch a token, purchase, poll, pay."""
    sku = await open_sale(mesh, sale_terms(units=1))
    shown = await edge.call("GET", f"/v1/sales/{sku}")
    assert shown.json["sale"]["remainingUnits"] == "1"
    assert shown.json["sale"]["soldOut"] is False
    buyer = json_buyer(edge, mesh)
    assert (await buyer.buy(sku)).outcome is Outcome.RESERVED
    assert (await buyer.wait()).state == order_pb2.ORDER_STATE_PENDING
    assert (await buyer.pay(PRICE)).state == order_pb2.ORDER_STATE_PAID


async def test_json_by_the_methods_own_path_cancels_an_order(edge: Edge, mesh: Mesh) -> None:
    """POST /seckill.v1.GatewayService/<Method> with everything in the body."""
    sku = await open_sale(mesh, sale_terms(units=1))
    buyer = json_buyer(edge, mesh)
    headers = dict(mesh.identity(buyer.user_id))
    asked = await edge.call("POST", f"/{SERVICE}/IssuePurchaseToken", {"sku": sku}, headers=headers)
    request = {"sku": sku, "purchase_token": asked.json["purchaseToken"], "request_id": "first"}
    bought = await edge.call("POST", f"/{SERVICE}/Purchase", request, headers=headers)
    assert bought.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    order_no = bought.json["orderNo"]
    await buyer.wait(order_no)
    assert (await buyer.cancel(order_no)).state == order_pb2.ORDER_STATE_CANCELLED
    listed = await edge.call("GET", "/v1/sales?page_size=1")
    assert len(listed.json["sales"]) == 1


async def test_an_order_is_watched_as_json_lines(edge: Edge, mesh: Mesh) -> None:
    """GET /v1/orders/{order_no}:watch gives one object a line, and ends with the order."""
    sku = await open_sale(mesh, sale_terms(units=1, payment_window_s=1.0))
    buyer = json_buyer(edge, mesh)
    order_no = (await buyer.buy(sku)).order_no
    await buyer.wait()
    headers = dict(mesh.identity(buyer.user_id))
    watched = await edge.call("GET", f"/v1/orders/{order_no}:watch", headers=headers)
    assert watched.body.splitlines()[-1].find(b"ORDER_STATE_CANCELLED") > 0


async def test_grpc_buys(mesh: Mesh, gateway: Gateway) -> None:
    """The real client, in plaintext."""
    sku = await open_sale(mesh, sale_terms(units=1))
    assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.RESERVED


async def test_grpc_web_buys(edge: Edge, mesh: Mesh) -> None:
    """Framed as browsers frame it, answered with a message and trailers in the body."""
    sku = await open_sale(mesh, sale_terms(units=1))
    identity = dict(mesh.identity(new_id("buyer")))
    ask = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    message, trailers = await grpc_web(edge, "IssuePurchaseToken", ask, **identity)
    assert trailers["grpc-status"] == "0"
    token = gateway_pb2.IssuePurchaseTokenResponse.FromString(message).purchase_token
    attempt = gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id="attempt-1")
    message, trailers = await grpc_web(edge, "Purchase", attempt, **identity)
    assert trailers["grpc-status"] == "0"
    assert gateway_pb2.PurchaseResponse.FromString(message).outcome == RESERVED


async def test_tls_buys_on_the_same_port_by_grpc_and_json(edge: Edge, mesh: Mesh) -> None:
    """HTTP/2 by ALPN for the gRPC client, HTTP/1.1 for the other; both verify the server."""
    sku = await open_sale(mesh, sale_terms(units=2))
    authority = edge.certificates.authority.read_bytes()
    async with edge.channel(grpc.ssl_channel_credentials(authority)) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.RESERVED
    tls = ssl.create_default_context(cafile=str(edge.certificates.authority))
    seen = await edge.call("GET", f"/v1/sales/{sku}", tls=tls)
    assert seen.json["sale"]["terms"]["sku"] == sku


async def test_client_certificates_are_checked_if_they_are_shown(edge: Edge, mesh: Mesh) -> None:
    """A client with our authority's certificate buys; one with any other gets no connection."""
    sku = await open_sale(mesh, sale_terms(units=1))
    files = edge.certificates
    known = grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.client_key.read_bytes(), files.client.read_bytes()
    )
    async with edge.channel(known) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome is Outcome.RESERVED
    # The server's own certificate is no client's.
    stranger = grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.server_key.read_bytes(), files.server.read_bytes()
    )
    async with edge.channel(stranger) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.ListSales(gateway_pb2.GatewayServiceListSalesRequest(), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
