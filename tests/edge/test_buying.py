"""A unit bought through the edge's one port, in each of the ways that the public has."""

import ssl

import grpc
import pytest

from seckill.v1 import gateway_pb2, gateway_pb2_grpc, inventory_pb2
from tests.e2e.actions import CALL_S, Gateway, buy, open_sale
from tests.edge.buyer import JsonBuyer, grpc_web
from tests.edge.kit import SERVICE, Edge
from tests.factories import PRICE, new_id, sale_terms
from tests.mesh import Mesh

RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED


async def test_json_buys_polls_and_pays(edge: Edge, mesh: Mesh) -> None:
    """The whole way as a page would go it: look, token, press, poll, pay."""
    sku = await open_sale(mesh, sale_terms(units=1))
    shown = await edge.call("GET", f"/v1/sales/{sku}")
    assert shown.json["sale"]["remainingUnits"] == "1"
    assert shown.json["sale"]["soldOut"] is False
    buyer = JsonBuyer(edge, mesh, new_id("buyer"))
    pressed = await buyer.press(sku)
    assert pressed.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    order_no = pressed.json["orderNo"]
    assert (await buyer.order_when_there(order_no))["state"] == "ORDER_STATE_PENDING"
    amount = {"currency": PRICE.currency, "minorUnits": str(PRICE.minor_units)}
    paid = await edge.call(
        "POST",
        f"/v1/orders/{order_no}:pay",
        {"payment_id": new_id("payment"), "amount": amount},
        headers=buyer.headers,
    )
    assert paid.json["order"]["state"] == "ORDER_STATE_PAID"


async def test_json_by_the_methods_own_path_gives_a_unit_up(edge: Edge, mesh: Mesh) -> None:
    """POST /seckill.v1.GatewayService/<Method> with everything in the body."""
    sku = await open_sale(mesh, sale_terms(units=1))
    buyer = JsonBuyer(edge, mesh, new_id("buyer"))
    request = {"sku": sku, "purchase_token": await buyer.token(sku), "request_id": "press-1"}
    pressed = await edge.call("POST", f"/{SERVICE}/Purchase", request, headers=buyer.headers)
    assert pressed.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    order_no = pressed.json["orderNo"]
    await buyer.order_when_there(order_no)
    cancelled = await edge.call("POST", f"/v1/orders/{order_no}:cancel", {}, headers=buyer.headers)
    assert cancelled.json["order"]["state"] == "ORDER_STATE_CANCELLED"
    listed = await edge.call("GET", "/v1/sales?page_size=1")
    assert len(listed.json["sales"]) == 1


async def test_an_order_is_watched_as_json_lines(edge: Edge, mesh: Mesh) -> None:
    """GET /v1/orders/{order_no}:watch gives one object a line, and ends with the order."""
    sku = await open_sale(mesh, sale_terms(units=1, payment_window_s=1.0))
    buyer = JsonBuyer(edge, mesh, new_id("buyer"))
    order_no = (await buyer.press(sku)).json["orderNo"]
    await buyer.order_when_there(order_no)
    watched = await edge.call("GET", f"/v1/orders/{order_no}:watch", headers=buyer.headers)
    assert watched.body.splitlines()[-1].find(b"ORDER_STATE_CANCELLED") > 0


async def test_grpc_buys(mesh: Mesh, gateway: Gateway) -> None:
    """The real client, in plaintext."""
    sku = await open_sale(mesh, sale_terms(units=1))
    assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome == RESERVED


async def test_grpc_web_buys(edge: Edge, mesh: Mesh) -> None:
    """Framed as browsers frame it, answered with a message and trailers in the body."""
    sku = await open_sale(mesh, sale_terms(units=1))
    identity = dict(mesh.identity(new_id("buyer")))
    ask = gateway_pb2.IssuePurchaseTokenRequest(sku=sku)
    message, trailers = await grpc_web(edge, "IssuePurchaseToken", ask, **identity)
    assert trailers["grpc-status"] == "0"
    token = gateway_pb2.IssuePurchaseTokenResponse.FromString(message).purchase_token
    press = gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id="press-1")
    message, trailers = await grpc_web(edge, "Purchase", press, **identity)
    assert trailers["grpc-status"] == "0"
    assert gateway_pb2.PurchaseResponse.FromString(message).outcome == RESERVED


async def test_tls_buys_on_the_same_port_by_grpc_and_json(edge: Edge, mesh: Mesh) -> None:
    """HTTP/2 by ALPN for the gRPC client, HTTP/1.1 for the other; both verify the server."""
    sku = await open_sale(mesh, sale_terms(units=2))
    authority = edge.certificates.authority.read_bytes()
    async with edge.channel(grpc.ssl_channel_credentials(authority)) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome == RESERVED
    tls = ssl.create_default_context(cafile=str(edge.certificates.authority))
    seen = await edge.call("GET", f"/v1/sales/{sku}", tls=tls)
    assert seen.json["sale"]["terms"]["sku"] == sku


async def test_client_certificates_are_checked_where_they_are_shown(edge: Edge, mesh: Mesh) -> None:
    """Our authority's certificate buys; one that nobody vouches for gets no connection."""
    sku = await open_sale(mesh, sale_terms(units=1))
    files = edge.certificates
    known = grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.client_key.read_bytes(), files.client.read_bytes()
    )
    async with edge.channel(known) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        assert (await buy(gateway, mesh, sku=sku, user=new_id("buyer"))).outcome == RESERVED
    # The server's own certificate is no client's.
    stranger = grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.server_key.read_bytes(), files.server.read_bytes()
    )
    async with edge.channel(stranger) as channel:
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.ListSales(gateway_pb2.GatewayServiceListSalesRequest(), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
