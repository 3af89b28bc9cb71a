"""How inventory is asked for units: over which channel, and what its failures mean to a buyer."""

import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from gateway.reservations import reserve_fault
from gateway.settings import GatewaySettings
from seckill.errors import DependencyUnavailable, OutcomeUnknown, RemoteError, SoldOut
from seckill.runtime.http2.answers import failed, never_sent
from seckill.status import reason_of, trailing_metadata
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import GatewayRig, failure, open_rig

UNAVAILABLE, LATE = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """What a gateway must be told."""
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**key, "kid": "ec"}]}))
    return {
        "gateway_jwks": str(path),
        "gateway_jwt_issuer": "https://issuer.example",
        "gateway_token_keys": "k:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }


@pytest.mark.parametrize("target", ["dns://10.0.0.1/inventory:50052", "xds:///inventory"])
def test_a_target_that_only_grpc_can_resolve_needs_its_channel(
    settings: dict[str, Any], target: str
) -> None:
    """At start, naming the setting that helps."""
    with pytest.raises(ValidationError, match="SECKILL_GATEWAY_INVENTORY_CHANNEL=grpcio"):
        GatewaySettings(inventory_target=target, **settings)
    GatewaySettings(inventory_target=target, gateway_inventory_channel="grpcio", **settings)


def test_only_what_was_surely_never_sent_has_surely_no_effect() -> None:
    """Also if its time was over; with everything else units may have been taken."""
    for unsent in (
        never_sent(UNAVAILABLE, "no replica takes the call"),
        never_sent(LATE, "no replica was connected in time"),
        failed(UNAVAILABLE, "failed to connect to all addresses"),
    ):
        assert isinstance(reserve_fault(unsent), DependencyUnavailable)
    for code in grpc.StatusCode:
        assert isinstance(reserve_fault(failed(code, "the connection was lost")), OutcomeUnknown)
    fault = SoldOut()
    told = failed(fault.code, str(fault), grpc.aio.Metadata(*trailing_metadata(fault)))
    assert isinstance(reserve_fault(told), RemoteError)


@pytest.fixture
async def rig(front: str, tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway whose calls to inventory may take a second."""
    async with AsyncExitStack() as stack:
        yield await open_rig(stack, tmp_path, front, gateway_inventory_timeout_s=1.0)


async def test_while_inventory_is_away_buyers_are_told_that_nothing_happened(
    rig: GatewayRig,
) -> None:
    """Over either channel: they may try again at once."""
    sku = rig.services.inventory.put(sale_terms(units=5))
    user = new_id("user")
    token = await rig.token(sku, user)
    await rig.services.stop()
    error = await failure(rig.buy(sku, user, token=token))
    assert error.code() is UNAVAILABLE
    assert reason_of(error) == "DEPENDENCY_UNAVAILABLE"
