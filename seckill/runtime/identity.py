"""Verifies JWTs against an issuer's keys."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt

from seckill.errors import IdentityInvalid, IdentityMissing
from seckill.runtime.jwks import KeySet
from seckill.validation import PRINTABLE, USER_ID_MAX

TOKEN_BYTES_MAX = 8 * 1024
# How far the issuer's clock may differ from ours.
LEEWAY_S = 5.0


class IdentityKeyUnknown(IdentityInvalid):
    """The JWT names a key that is not known; the key set may have a newer version."""


class Claims(NamedTuple):
    """What a verified token says.

    Attributes:
        user_id: the token's subject.
        expire_s: Unix time.
        roles: of any type, as the issuer wrote it.
        everything: all claims, of any types, as the issuer wrote them.
    """

    user_id: str
    expire_s: float
    roles: Any
    everything: Mapping[str, Any]


class TokenVerifier:
    """Returns the claims of tokens that a known key has signed."""

    def __init__(self, keys: KeySet, *, issuer: str, audience: str) -> None:
        """`issuer`, `audience`: what a token must name."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def verify(self, token: bytes) -> Claims:
        """Return the claims of a JWT.

        Raises:
            IdentityKeyUnknown: the key may become known by `KeySet.reload_for_unknown_key`.
            IdentityInvalid: the token is malformed, expired, too long, or proves nothing.
        """
        if len(token) > TOKEN_BYTES_MAX:
            raise IdentityInvalid
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
            expire_s = float(claims["exp"])
        except (jwt.PyJWTError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
            # All but the first: claims that are no numbers, numbers beyond all bounds, and JSON
            # nested deeper than its parser's stack.
            raise IdentityInvalid from error
        user_id: str = claims["sub"]
        if len(user_id) > USER_ID_MAX or PRINTABLE.fullmatch(user_id) is None:
            raise IdentityInvalid("the JWT's subject is not a user id")
        return Claims(user_id, expire_s, claims.get("roles"), claims)


def bearer_token(authorization: bytes) -> bytes:
    """Return the JWT in metadata "Bearer <JWT>"; raises IdentityMissing if there is none."""
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        raise IdentityMissing
    return token
