"""What is kept of addresses and payment fingerprints: hashes with a key, not the things themselves.

All gateways have the same key, so that what two of them saw can be compared. Without the key nobody
can tell which address a hash is of, though there are few enough addresses to try them all.
"""

import base64
import binascii
import hashlib

from seckill.runtime.purchase_tokens import TokenKey, refuse_weak_key

HASH_BYTES = 16
KEY_BYTES_MIN, KEY_BYTES_MAX = 32, 64
NONE = b""


class KeyedHashes:
    """Hashes of 16 bytes; empty ones for what is empty, or while there is no key."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 to 64 bytes, or empty."""
        self._key = key

    @property
    def on(self) -> bool:
        """Whether there is a key."""
        return bool(self._key)

    def address(self, name: str) -> bytes:
        """Return the hash of an address, as Admission.address names it."""
        return self._hash(b"address", name.encode())

    def fingerprint(self, digest: bytes | None) -> bytes:
        """Return the hash of a payment fingerprint, of which a digest is known."""
        return self._hash(b"fingerprint", digest or NONE)

    def _hash(self, kind: bytes, value: bytes) -> bytes:
        if not value or not self._key:
            return NONE
        return hashlib.blake2b(value, digest_size=HASH_BYTES, key=self._key, person=kind).digest()


def parse_key(text: str, *, production: bool) -> bytes:
    """Return the key in a setting, empty if there is none.

    Raises:
        ValueError: it is not base64 of 32 to 64 bytes, or not fit for production.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64") from error
    if not key:
        return key
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"must be base64 of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")
    if production:
        refuse_weak_key(TokenKey("sightings", key))
    return key
