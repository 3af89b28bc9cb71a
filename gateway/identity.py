"""Who calls: a JWT, verified once (24-81 µs) and remembered until it expires."""

import hashlib
from typing import NamedTuple

from gateway.metrics import JWT_VERIFICATIONS_TOTAL
from gateway.risk.claims import ClaimReader
from gateway.risk.facts import Standing
from seckill.errors import IdentityInvalid, IdentityMissing
from seckill.runtime.identity import LEEWAY_S, TOKEN_BYTES_MAX, TokenVerifier, bearer_token
from seckill.runtime.jwks import KeySet
from seckill.runtime.recent import Recent

# Of a token's SHA-256: what is remembered of a token is short, whatever a caller writes around it.
DIGEST_BYTES = 16


class Buyer(NamedTuple):
    """Who calls.

    Attributes:
        user_id: the token's subject.
        until_s: until when the token says so, Unix time.
        packed: what it says of the user besides, as Standing.packed has it.
    """

    user_id: str
    until_s: float
    packed: bytes = b""

    @property
    def standing(self) -> Standing:
        """What the token says of the user."""
        return Standing.unpack(self.packed)


class Identity:
    """From `authorization` metadata to a buyer."""

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        remembered_max: int,
        reader: ClaimReader | None = None,
    ) -> None:
        """
        Args:
            keys: of the issuer.
            issuer, audience: what a token must name.
            remembered_max: tokens kept.
            reader: of the claims that say who the user is; None reads none.
        """
        self._reader = reader or ClaimReader()
        self._keys = keys
        self._verifier = TokenVerifier(keys, issuer=issuer, audience=audience)
        self._known: Recent[bytes, Buyer] = Recent(remembered_max)
        self._generation = keys.generation

    def remembered(self, authorization: bytes | None, *, now_s: float) -> Buyer | None:
        """Who calls, if their token has been remembered and still holds."""
        if authorization is None:
            return None
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._known.clear()
        digest = _digest(authorization)
        buyer = self._known.get(digest) if digest else None
        return buyer if buyer is not None and now_s < buyer.until_s else None

    def remember(self, authorization: bytes, buyer: Buyer) -> None:
        """Spare the next verification of a token that `identify` has accepted."""
        self._known.put(_digest(authorization), buyer)

    def identify(self, authorization: bytes | None, *, now_s: float) -> Buyer:
        """Verify a token; return who calls, which is its subject.

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
        buyer = self._verify(authorization, now_s)
        if buyer.until_s <= now_s:
            raise IdentityInvalid("the JWT has expired")
        return buyer

    def _verify(self, authorization: bytes, now_s: float) -> Buyer:
        token = bearer_token(authorization)
        JWT_VERIFICATIONS_TOTAL.inc()
        claims = self._verifier.verify(token)
        standing = self._reader.read(claims.everything, now_s=now_s)
        return Buyer(claims.user_id, claims.expire_s + LEEWAY_S, standing.packed())


def _digest(authorization: bytes) -> bytes:
    """What a token is remembered by; empty if there is none, or one that is too long."""
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if not token or len(token) > TOKEN_BYTES_MAX or scheme.lower() != b"bearer":
        return b""
    return hashlib.sha256(token).digest()[:DIGEST_BYTES]
