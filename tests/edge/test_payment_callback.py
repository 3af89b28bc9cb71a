"""A payment provider's callback through the edge: raw bytes and headers reach the adapter."""

import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import Stores
from seckill.client import Outcome
from seckill.v1 import order_pb2
from tests.kits.actions import open_sale
from tests.kits.edge import Answer, Edge
from tests.kits.edge_buyer import json_buyer
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.mesh import Mesh

SECRET = "whsec_for_the_edge_tests"
PROVIDERS = json.dumps([{"name": "stripe", "scheme": "stripe", "secret": SECRET}])


@pytest.fixture(scope="module")
def mesh(prepared_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that listens to one provider, and takes no payments from buyers."""
    settings = {
        "SECKILL_ORDER_PAYMENT_PROVIDERS": PROVIDERS,
        "SECKILL_GATEWAY_SANDBOX_PAYMENTS": "false",
    }
    directory: Path = tmp_path_factory.mktemp("mesh-payments")
    with Mesh(prepared_stores, directory=directory, settings=settings) as running:
        yield running


@pytest.fixture(scope="module", params=["passed", "transcoded"])
def edge(
    request: pytest.FixtureRequest, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    """Envoy and its agent in front of that mesh, in both ways to pass JSON on."""
    settings = {"SECKILL_EDGE_JSON": request.param}
    directory = tmp_path_factory.mktemp(f"edge-payments-{request.param}")
    with Edge(mesh.settings, directory=directory, settings=settings) as running:
        yield running


def body_of(order_no: str, payment_id: str, amount: int = PRICE.minor_units) -> bytes:
    """Stripe's notice, in spaces and an order of members that no JSON writer gives back."""
    money = f'"currency":"{PRICE.currency.lower()}","amount_received":{amount}'
    return (
        f'{{ "data" : {{"object":{{"metadata":{{"order_no":"{order_no}"}},\n{money},'
        f'"id":"{payment_id}"}} }},  "type":"payment_intent.succeeded","more":1.0 }}\n'
    ).encode()


async def post(
    edge: Edge, body: bytes, *, secret: str = SECRET, provider: str = "stripe", age_s: int = 0
) -> Answer:
    """Send a callback, signed."""
    at_s = int(time.time()) - age_s
    digest = hmac.digest(secret.encode(), f"{at_s}.".encode() + body, "sha256").hex()
    headers = {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": f"t={at_s},v1={digest}",
    }
    return await edge.call("POST", f"/v1/payments/{provider}:callback", body, headers=headers)


async def test_provider_pays_the_order_and_the_buyer_cannot(edge: Edge, mesh: Mesh) -> None:
    """The buyer's own call is refused with its reason; the callback pays, and again the same."""
    sku = await open_sale(mesh, sale_terms(units=1))
    buyer = json_buyer(edge, mesh)
    attempt = await buyer.buy(sku)
    assert attempt.outcome is Outcome.RESERVED
    await buyer.wait()
    identity = dict(mesh.identity(buyer.user_id))
    money = {"currency": PRICE.currency, "minorUnits": str(PRICE.minor_units)}
    invented = await edge.call(
        "POST",
        f"/v1/orders/{attempt.order_no}:pay",
        {"paymentId": "invented", "amount": money},
        headers=identity,
    )
    assert (invented.status, reason(invented)) == (400, "PAYMENT_SANDBOX_OFF")
    body = body_of(attempt.order_no, new_id("pi"))
    for _ in range(2):
        told = await post(edge, body)
        assert (told.status, told.json["state"]) == (200, "PAYMENT_STATE_APPLIED"), told.body
    assert (await buyer.wait()).state == order_pb2.ORDER_STATE_PAID


async def test_unsigned_callback_is_refused(edge: Edge) -> None:
    """401 for another secret and an old time, 404 for another provider, 200 for what is owed."""
    body = body_of("0" * 26, new_id("pi"))
    for refused in (
        await post(edge, body, secret="another secret"),
        await post(edge, body, age_s=310),
    ):
        assert (refused.status, reason(refused)) == (401, "PAYMENT_SIGNATURE_INVALID")
    unknown = await post(edge, body, provider="nobody")
    assert (unknown.status, reason(unknown)) == (404, "PAYMENT_PROVIDER_NOT_FOUND")
    owed = await post(edge, body)
    assert (owed.status, owed.json["reason"]) == (200, "PAYMENT_REASON_UNKNOWN_ORDER")


def reason(answer: Answer) -> str:
    """The reason in a failure's ErrorInfo."""
    return next(str(detail["reason"]) for detail in answer.json["details"] if "reason" in detail)
