"""Who calls: a JWT, verified once (24-81 µs) and remembered until it expires."""

from typing import Any, NamedTuple

import jwt

from gateway.jwks import KeySet
from gateway.metrics import JWT_VERIFICATIONS
from gateway.recent import Recent
from seckill.errors import IdentityInvalid, IdentityMissing
from seckill.validation import PRINTABLE, USER_ID_MAX

TOKEN_BYTES_MAX = 8 * 1024
# How far the issuer's clock may differ from ours.
LEEWAY_S = 5.0


class IdentityKeyUnknown(IdentityInvalid):
    """The JWT names a key that is not known; the key set may have a newer version."""


class Buyer(NamedTuple):
    """Who calls, and until when his token says so (Unix time)."""

    user_id: str
    until_s: float


class Identity:
    """From `authorization` metadata to a buyer."""

    def __init__(self, keys: KeySet, *, issuer: str, audience: str, remembered_max: int) -> None:
        """`issuer`, `audience`: what a token must name; `remembered_max`: tokens kept."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._known: Recent[bytes, Buyer] = Recent(remembered_max)
        self._generation = keys.generation

    def remembered(self, authorization: bytes | None, *, now_s: float) -> Buyer | None:
        """Who calls, if his token has been verified before and still holds."""
        if authorization is None:
            return None
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._known.clear()
        buyer = self._known.get(authorization)
        return buyer if buyer is not None and now_s < buyer.until_s else None

    def identify(self, authorization: bytes | None, *, now_s: float) -> Buyer:
        """Who calls, which is the token's subject.

        Args:
            authorization: "Bearer <JWT>".
            now_s: Unix time.

        Raises:
            IdentityMissing: there is no bearer token.
            IdentityKeyUnknown: the key may become known by `reload_for_unknown_key`.
            IdentityInvalid: the token proves nothing.
        """
        if authorization is None:
            raise IdentityMissing
        buyer = self.remembered(authorization, now_s=now_s)
        if buyer is None:
            buyer = self._verify(authorization)
            if buyer.until_s <= now_s:
                raise IdentityInvalid("the JWT has expired")
            self._known.put(authorization, buyer)
        return buyer

    def _verify(self, authorization: bytes) -> Buyer:
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise IdentityMissing
        if len(token) > TOKEN_BYTES_MAX:
            raise IdentityInvalid
        JWT_VERIFICATIONS.inc()
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise IdentityKeyUnknown
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                # The key's own algorithm: what the token asks for is not to be trusted.
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise IdentityInvalid from error
        user_id = claims["sub"]
        if len(user_id) > USER_ID_MAX or PRINTABLE.fullmatch(user_id) is None:
            raise IdentityInvalid("the JWT's subject is not a user id")
        return Buyer(user_id, float(claims["exp"]) + LEEWAY_S)
