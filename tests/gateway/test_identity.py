"""Identities: verified by the issuer's keys, remembered, and forgotten with a withdrawn key."""

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pydantic import ValidationError

from gateway.identity import Identity
from gateway.settings import GatewaySettings
from seckill.errors import IdentityInvalid, IdentityMissing
from seckill.runtime.identity import IdentityKeyUnknown
from seckill.runtime.jwks import KeySet, parse_jwks

ISSUER, AUDIENCE = "https://issuer.example", "seckill"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SECRET = b"s" * 32


def token_keys(secret: bytes | None = None) -> str:
    """A value of SECKILL_GATEWAY_TOKEN_KEYS; the secret is a random one."""
    return "k1:" + base64.b64encode(secret or secrets.token_bytes(32)).decode()


def public_jwks(*key_ids: str) -> str:
    """The JWKS document with these of the keys."""
    secret = base64.urlsafe_b64encode(SECRET).decode().rstrip("=")
    known: dict[str, dict[str, Any]] = {
        "ec": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key())),
        "ed": json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED_KEY.public_key())),
        "oct": {"kty": "oct", "k": secret, "alg": "HS256"},
    }
    return json.dumps({"keys": [{**known[key_id], "kid": key_id} for key_id in key_ids]})


def bearer(
    key: Any = EC_KEY, algorithm: str = "ES256", kid: str = "ec", **changes: object
) -> bytes:
    """Authorization of buyer-1, with claims changed; a claim of None is left out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "buyer-1",
        "exp": int(time.time()) + 1800,
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return b"Bearer " + jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid}).encode()


class Issuer:
    """A JWKS file and an Identity that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(public_jwks("ec", "ed"))
        self.keys = KeySet(str(path), allow_symmetric=False, reload_interval_s=300)
        self.identity = Identity(self.keys, issuer=ISSUER, audience=AUDIENCE, remembered_max=10)


@pytest.fixture
async def issuer(tmp_path: Path) -> Issuer:
    """With an elliptic-curve and an Ed25519 key."""
    made = Issuer(tmp_path / "jwks.json")
    await made.keys.load()
    return made


async def test_a_good_token_names_its_subject(issuer: Issuer) -> None:
    """With either key, and in any case of the scheme's name."""
    for authorization in (bearer(), bearer(ED_KEY, "EdDSA", "ed"), b"b" + bearer()[1:]):
        assert issuer.identity.identify(authorization, now_s=time.time()).user_id == "buyer-1"


@pytest.mark.parametrize("authorization", [None, b"", b"Bearer", b"Bearer ", b"Basic dTpw"])
async def test_no_bearer_token_is_identity_missing(
    issuer: Issuer, authorization: bytes | None
) -> None:
    """What is no bearer token at all is missing, not invalid."""
    with pytest.raises(IdentityMissing):
        issuer.identity.identify(authorization, now_s=time.time())


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer nonsense",
        b"Bearer " + b"x" * 9000,
        b"Bearer \xff\xfe",
        bearer(iss="https://elsewhere.example"),
        bearer(aud="another-service"),
        bearer(exp=int(time.time()) - 60),
        bearer(exp=None),
        bearer(exp=float("inf")),
        bearer(exp=[1]),
        bearer(sub=None),
        bearer(sub=""),
        bearer(sub="with space"),
        bearer(sub="x" * 129),
        # Made when tests are collected: nothing here may become true while they run.
        bearer(nbf=int(time.time()) + 86_400),
        bearer(ec.generate_private_key(ec.SECP256R1())),
        bearer(ED_KEY, "EdDSA", "ec"),
        # The public key used as a shared secret, and no signature at all.
        bearer(b"p" * 32, "HS256", "ec"),
        bearer(None, "none", "ec"),
    ],
)
async def test_what_proves_nothing_is_identity_invalid(
    issuer: Issuer, authorization: bytes
) -> None:
    """Malformed, expired, foreign, unsigned, or signed by the wrong key or algorithm."""
    with pytest.raises(IdentityInvalid):
        issuer.identity.identify(authorization, now_s=time.time())


async def test_a_remembered_token_still_expires(issuer: Issuer) -> None:
    """The memory does not outlive the token, and is none of another scheme's."""
    authorization = bearer()
    buyer = issuer.identity.identify(authorization, now_s=time.time())
    issuer.identity.remember(authorization, buyer)
    assert issuer.identity.remembered(authorization, now_s=time.time()) == buyer
    spaced = b"bearer  " + authorization[len(b"Bearer ") :] + b" " * 9_000
    assert issuer.identity.remembered(spaced, now_s=time.time()) == buyer
    other = b"Basic " + authorization[len(b"Bearer ") :]
    assert issuer.identity.remembered(other, now_s=time.time()) is None
    assert issuer.identity.remembered(authorization, now_s=time.time() + 3600) is None
    with pytest.raises(IdentityInvalid):
        issuer.identity.identify(authorization, now_s=time.time() + 3600)


async def test_a_withdrawn_key_vouches_for_nobody(issuer: Issuer) -> None:
    """Tokens remembered before are looked at again once a key is gone."""
    authorization = bearer(ED_KEY, "EdDSA", "ed")
    buyer = issuer.identity.identify(authorization, now_s=time.time())
    issuer.identity.remember(authorization, buyer)
    issuer.path.write_text(public_jwks("ec"))
    await issuer.keys.load()
    assert issuer.identity.remembered(authorization, now_s=time.time()) is None
    with pytest.raises(IdentityKeyUnknown):
        issuer.identity.identify(authorization, now_s=time.time())


async def test_unknown_keys_cause_few_reloads(issuer: Issuer) -> None:
    """A flood of tokens with made-up keys does not become a flood of reads."""
    issuer.path.write_text(public_jwks("ec"))
    for _ in range(100):
        await issuer.keys.reload_for_unknown_key()
    assert issuer.keys.get("ed") is not None, "loaded a moment ago: not read again"


async def test_a_broken_document_leaves_the_keys_as_they_were(issuer: Issuer) -> None:
    """An issuer's mishap locks no buyer out."""
    issuer.path.write_text("{}")
    with pytest.raises(ValueError, match="Key Set"):
        await issuer.keys.load()
    assert issuer.identity.identify(bearer(), now_s=time.time()).user_id == "buyer-1"


@pytest.mark.parametrize("document", ["", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "x"}]}'])
def test_a_document_without_usable_keys_is_refused(document: str) -> None:
    """By a ValueError that says what it is not."""
    with pytest.raises(ValueError, match="Key Set"):
        parse_jwks(document, allow_symmetric=True)


def test_production_refuses_symmetric_keys(tmp_path: Path) -> None:
    """At start, naming the setting's value; the development profile takes them."""
    path = tmp_path / "jwks.json"
    path.write_text(public_jwks("oct"))
    values: dict[str, Any] = {
        "gateway_jwks": str(path),
        "gateway_jwt_issuer": ISSUER,
        "gateway_jwt_audience": AUDIENCE,
        "gateway_token_keys": token_keys(),
    }
    GatewaySettings(profile="development", **values)
    with pytest.raises(ValidationError, match="symmetric keys"):
        GatewaySettings(profile="production", **values)


@pytest.mark.parametrize(
    "keys", [token_keys(b"for development, on this machine"), token_keys(b"k" * 32)]
)
def test_production_refuses_weak_token_keys(tmp_path: Path, keys: str) -> None:
    """The key that compose.yaml shows, and one that anybody guesses."""
    path = tmp_path / "jwks.json"
    path.write_text(public_jwks("ec"))
    values: dict[str, Any] = {
        "gateway_jwks": str(path),
        "gateway_jwt_issuer": ISSUER,
        "gateway_token_keys": keys,
    }
    GatewaySettings(profile="development", **values)
    GatewaySettings(profile="production", **{**values, "gateway_token_keys": token_keys()})
    with pytest.raises(ValidationError, match="gateway_token_keys"):
        GatewaySettings(profile="production", **values)
