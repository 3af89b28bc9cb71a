"""Signed tokens with claims of any shape prove an identity or nothing; they break nothing."""

import asyncio
import base64
import json
import time
from contextlib import suppress
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.identity import Identity
from gateway.risk.claims import ClaimReader, parse_eligibility
from seckill.errors import IdentityInvalid, IdentityMissing, NotAllowed
from seckill.runtime.jwks import KeySet
from seckill.runtime.roles import RoleGate

NOW_S = int(time.time())
GOOD: dict[str, Any] = {
    "iss": "https://issuer.example",
    "aud": "seckill",
    "sub": "buyer-1",
    "exp": NOW_S + 86_400,
    "roles": ["operator"],
}
SECRET = b"s" * 32
NESTED = b"[" * 1_500 + b"]" * 1_500


def encoded(part: bytes) -> bytes:
    """Return a part of a JWT as it is sent."""
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed(claims: bytes, header: bytes = b'{"alg":"HS256","kid":"k"}') -> bytes:
    """Return a token that the issuer's key has signed, whatever its parts are."""
    body = encoded(header) + b"." + encoded(claims)
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    return body + b"." + encoded(key.sign(body, SECRET))


@pytest.fixture(scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    """The issuer's one key, which the tests have."""
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    entry = {"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(SECRET).decode()}
    path.write_text(json.dumps({"keys": [entry]}))
    opened = KeySet(str(path), allow_symmetric=True, reload_interval_s=300)
    await opened.load()
    return opened


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        [
            *(2**31, 2**53, 2**63, 2**64, 2**2000, -(2**2000), 10**4000, 1e308, -1e308),
            *("", "operator", "buyer-1", "9" * 400, "9" * 5000, str(NOW_S + 60), "\0", "\ud800"),
        ]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "kid", "operator"]), inner, max_size=2)
    ),
    max_leaves=5,
)
# The claims that speak for a user, or against one, may be of any shape too.
READER = ClaimReader(
    account_from="opened",
    fingerprint="card",
    eligibility=parse_eligibility("phone_verified,plan=gold"),
    required=parse_eligibility("adult"),
)
NAMES = [
    *GOOD,
    "opened",
    "card",
    "phone_verified",
    "plan",
    "adult",
    "nbf",
    "iat",
    "jti",
    "kid",
    "crit",
    "b64",
]
CHANGES = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)


class _Context:
    """A call with a bearer token, as far as a gate looks at it."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def invocation_metadata(self) -> Any:
        return (("authorization", b"Bearer " + self._token),)


async def _is_answered(keys: KeySet, token: bytes) -> None:
    """Ask both who verify tokens; each returns a name, or raises what a caller is told."""
    identity = Identity(
        keys, issuer=GOOD["iss"], audience=GOOD["aud"], remembered_max=10, reader=READER
    )
    gate = RoleGate(keys, "operator", issuer=GOOD["iss"], audience=GOOD["aud"], setting="KEYS")
    with suppress(IdentityInvalid, IdentityMissing):
        buyer = identity.identify(b"Bearer " + token, now_s=time.time())
        assert buyer.user_id
        assert buyer.until_s > NOW_S
    with suppress(IdentityInvalid, IdentityMissing, NotAllowed):
        assert await gate.admit(_Context(token))  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(changes=CHANGES, left_out=st.sets(st.sampled_from(list(GOOD)), max_size=1), data=st.data())
def test_claims_of_any_shape_are_answered(
    keys: KeySet, changes: dict[str, Any], left_out: set[str], data: st.DataObject
) -> None:
    """An identity, IDENTITY_INVALID or NOT_ALLOWED; never another exception."""
    claims = {name: value for name, value in (GOOD | changes).items() if name not in left_out}
    header: dict[str, Any] = {"alg": "HS256", "kid": "k"}
    if data.draw(st.booleans(), label="changes the header"):
        header |= data.draw(CHANGES)
    token = signed(json.dumps(claims).encode(), json.dumps(header).encode())
    asyncio.run(_is_answered(keys, token))


@pytest.mark.parametrize(
    "token",
    [
        signed(b'{"exp":1e400,"sub":"a","iss":"https://issuer.example","aud":"seckill"}'),
        signed(json.dumps(GOOD | {"exp": 2**2000}).encode()),
        signed(json.dumps(GOOD | {"exp": 10**4000}).encode()),
        signed(b"[]"),
        signed(b"\xff\xfe"),
        signed(NESTED),
        signed(b"{}", NESTED),
        signed(b'{"exp":' + NESTED + b"}"),
        signed(b"9" * 5000),
        signed(b"{}", b"9" * 5000),
        signed(b"{}", b'"text"'),
        b"...",
        b"\xc3\xa4.\xc3\xa4.\xc3\xa4",
    ],
)
async def test_tokens_of_any_bytes_are_answered(keys: KeySet, token: bytes) -> None:
    """Numbers beyond all bounds, nesting beyond the parser's stack, no objects at all."""
    await _is_answered(keys, token)
