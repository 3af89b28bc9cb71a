"""Payments at the gateway: a sandbox that is off, and callbacks that pass."""

import base64
import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from seckill.v1 import gateway_pb2, order_pb2, payment_pb2
from tests.kits.factories import PRICE
from tests.kits.gateway import details, failure, open_rig

ORDER_NO = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_payments_reach_order_svc_only_from_the_sandbox_or_a_provider(
    tmp_path: Path, front: str
) -> None:
    """Off, the buyer's call is refused with its reason; a callback passes, raw, with headers."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_sandbox_payments=False)
        rig.services.orders.orders[ORDER_NO] = order_pb2.Order(order_no=ORDER_NO, user_id="owner")
        invented = gateway_pb2.GatewayServicePayOrderRequest(
            order_no=ORDER_NO, payment_id="invented", amount=PRICE
        )
        error = await failure(rig.stub.PayOrder(invented, metadata=rig.identity("owner")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert details(error)["ErrorInfo"].reason == "PAYMENT_SANDBOX_OFF"
        assert rig.services.orders.orders[ORDER_NO].state == 0
        callback = gateway_pb2.GatewayServiceReceivePaymentCallbackRequest(provider="psp")
        callback.body.data = b'{ "raw":1.0}\xff'
        metadata = (("webhook-signature", "v1,x"), ("authorization", "Bearer secret"))
        answer = await rig.stub.ReceivePaymentCallback(callback, metadata=metadata)
        assert answer.state == payment_pb2.PAYMENT_STATE_TO_REFUND
        (received,) = rig.services.orders.callbacks
        assert (received.provider, received.body) == ("psp", callback.body.data)
        assert received.headers["webhook-signature"] == "v1,x"
        assert "authorization" not in received.headers


def test_production_refuses_the_sandbox(tmp_path: Path) -> None:
    """At start, naming the setting: a buyer would pay without money; it is off by default."""
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**key, "kid": "ec"}]}))
    values: dict[str, Any] = {
        "gateway_jwks": str(path),
        "gateway_jwt_issuer": "https://issuer.example",
        "gateway_jwt_audience": "seckill",
        "gateway_token_keys": "k:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    assert not GatewaySettings(profile="production", **values).gateway_sandbox_payments
    GatewaySettings(profile="development", gateway_sandbox_payments=True, **values)
    with pytest.raises(ValidationError, match="gateway_sandbox_payments"):
        GatewaySettings(profile="production", gateway_sandbox_payments=True, **values)
