"""Purchase tokens: ten seconds in which one buyer may try to buy one sku.

    version (1 byte) · length of the key id (1) · key id · expiry, Unix ms (6) · SHA-256 of the
    `authorization` that it was issued on, its first 12 bytes · length of the user id (1) ·
    user id · sku · HMAC-SHA-256 of all that, its first 16 bytes

in base64url without padding. A token says nothing that its holder does not know; the signature is
what counts, and it is checked first. The first key signs, all keys verify: rotate by putting the
new key second, then first, then dropping the old one.

A token is a permission and no identity: who has a key can let anybody try to buy, and be nobody
(docs/adr/0026-what-a-token-stands-for.md). So the digest of the `authorization` is not relied on;
it is there for replicas of earlier releases, which verify it.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from seckill.errors import PurchaseTokenExpired, PurchaseTokenForeign, PurchaseTokenInvalid

VERSION = 2
MAC_BYTES = 16
SHA256_BLOCK_BYTES = 64
EXPIRY_BYTES = 6
PROOF_BYTES = 12
KEY_BYTES_MIN = 16
KEY_ID_MAX = 32
# In production: as long as the hash (RFC 2104, section 3), and of so many different bytes, which 32
# random ones do not miss in the life of the universe.
KEY_BYTES_MIN_PRODUCTION = 32
DIFFERENT_BYTES_MIN = 12
DEVELOPMENT_KEY_ID = "development"
# How far the clock of the replica that issued a token may differ from ours.
CLOCK_SKEW_MS = 5_000
# Version, both lengths, expiry, proof and signature around the longest key id, user id and sku, in
# base64.
TOKEN_CHARS_MAX = (3 + KEY_ID_MAX + EXPIRY_BYTES + PROOF_BYTES + 128 + 64 + MAC_BYTES) * 4 // 3 + 4


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A signing key and its name."""

    key_id: str
    secret: bytes


def parse_keys(text: str) -> tuple[TokenKey, ...]:
    """Keys of "kid:base64secret,kid2:base64secret"; raises ValueError without showing a secret."""
    keys: dict[str, TokenKey] = {}
    for part in text.split(","):
        key_id, _, encoded = part.strip().partition(":")
        if not (0 < len(key_id) <= KEY_ID_MAX and key_id.isascii() and key_id.isprintable()):
            raise ValueError(f"a key id must be 1 to {KEY_ID_MAX} printable ASCII characters")
        try:
            secret = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError(f"the secret of key {key_id!r} is not base64") from None
        if len(secret) < KEY_BYTES_MIN:
            raise ValueError(f"the secret of key {key_id!r} has fewer than {KEY_BYTES_MIN} bytes")
        if key_id in keys:
            raise ValueError(f"key id {key_id!r} stands twice")
        keys[key_id] = TokenKey(key_id, secret)
    return tuple(keys.values())


def refuse_weak_key(key: TokenKey) -> None:
    """Raise ValueError, without showing the secret, if a key is not fit for production."""
    secret = key.secret
    if key.key_id == DEVELOPMENT_KEY_ID or b"development" in secret.lower():
        raise ValueError(f"key {key.key_id!r} is for development; the production profile needs own")
    if len(secret) < KEY_BYTES_MIN_PRODUCTION:
        raise ValueError(
            f"the secret of key {key.key_id!r} has fewer than {KEY_BYTES_MIN_PRODUCTION} bytes,"
            " which the production profile asks for"
        )
    # A text repeats itself if it is found in itself elsewhere than at its ends.
    repeats = (secret + secret).find(secret, 1) < len(secret)
    if repeats or len(set(secret)) < DIFFERENT_BYTES_MIN:
        raise ValueError(f"the secret of key {key.key_id!r} repeats itself; make it at random")


def _prefix(key_id: str) -> bytes:
    return bytes((VERSION, len(key_id))) + key_id.encode()


def _holder(user_id: str, sku: str) -> bytes:
    return b"%c%b%b" % (len(user_id), user_id.encode(), sku.encode())


class _Signer:
    """HMAC-SHA-256 with the key's two blocks hashed beforehand: a third of hmac.digest's time."""

    def __init__(self, secret: bytes) -> None:
        # RFC 2104: a key longer than a block is hashed, then padded to a block.
        key = hashlib.sha256(secret).digest() if len(secret) > SHA256_BLOCK_BYTES else secret
        key = key.ljust(SHA256_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def sign(self, body: bytes) -> bytes:
        """The first bytes of the body's MAC."""
        inner = self._inner.copy()
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:MAC_BYTES]


class PurchaseTokens:
    """Makes and checks purchase tokens."""

    def __init__(self, keys: Sequence[TokenKey], *, life_max_s: float | None = None) -> None:
        """
        Args:
            keys: at least one; the first signs.
            life_max_s: tokens that have longer to live are refused; None takes any.
        """
        self._life_max_ms = None if life_max_s is None else int(life_max_s * 1000) + CLOCK_SKEW_MS
        self._signers = {_prefix(key.key_id): _Signer(key.secret) for key in keys}
        self._signer_prefix = _prefix(keys[0].key_id)

    def mint(self, user_id: str, sku: str, *, authorization: bytes, expire_ms: int) -> str:
        """A token for this buyer and sku.

        Args:
            authorization: with which it was asked for.
            expire_ms: Unix milliseconds.
        """
        expiry = expire_ms.to_bytes(EXPIRY_BYTES, "big")
        body = self._signer_prefix + expiry + _proof(authorization) + _holder(user_id, sku)
        token = body + self._signers[self._signer_prefix].sign(body)
        return base64.urlsafe_b64encode(token).rstrip(b"=").decode()

    def check(self, token: str, user_id: str, sku: str, *, now_ms: int) -> None:
        """Whether the token lets this buyer purchase this sku now.

        Raises:
            PurchaseTokenInvalid: it is malformed, no known key signed it, or it has longer to live
                than we give.
            PurchaseTokenForeign: it is another buyer's, or for another sku.
            PurchaseTokenExpired: its time is over.
        """
        body, expiry_at = self._verified(token)
        if body[expiry_at + EXPIRY_BYTES + PROOF_BYTES :] != _holder(user_id, sku):
            raise PurchaseTokenForeign
        left_ms = _expiry_ms(body, expiry_at) - now_ms
        if left_ms <= 0:
            raise PurchaseTokenExpired
        if self._life_max_ms is not None and left_ms > self._life_max_ms:
            raise PurchaseTokenInvalid

    def _verified(self, token: str) -> tuple[bytes, int]:
        """(What is signed, where the expiry begins in it); raises PurchaseTokenInvalid."""
        raw = _decode(token)
        expiry_at = 2 + raw[1]
        body = raw[:-MAC_BYTES]
        signer = self._signers.get(raw[:expiry_at])
        if signer is None or not hmac.compare_digest(signer.sign(body), raw[-MAC_BYTES:]):
            raise PurchaseTokenInvalid
        return body, expiry_at


def _proof(authorization: bytes) -> bytes:
    return hashlib.sha256(authorization).digest()[:PROOF_BYTES]


def _expiry_ms(body: bytes, expiry_at: int) -> int:
    return int.from_bytes(body[expiry_at : expiry_at + EXPIRY_BYTES], "big")


def _decode(token: str) -> bytes:
    """The token's bytes, long enough to be looked into; raises PurchaseTokenInvalid."""
    length = len(token)
    # One character over a multiple of four cannot come from an encoder.
    if length > TOKEN_CHARS_MAX or length % 4 == 1:
        raise PurchaseTokenInvalid
    try:
        encoded = token.encode("ascii").translate(_STANDARD) + _PADDING[length % 4]
        raw = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise PurchaseTokenInvalid from None
    if len(raw) < 2 + EXPIRY_BYTES + MAC_BYTES:
        raise PurchaseTokenInvalid
    return raw


# Base64url to base64; the standard alphabet's own two characters become illegal.
_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")
_PADDING = (b"", b"", b"==", b"=")
