"""Proof of work, compatible with ALTCHA (v1): https://altcha.org/docs/v1/proof-of-work/

A challenge is SHA-256(salt, number) for a number that is not told; to find it, half of `max_number`
texts are hashed on average. It is signed, and its salt says until when it counts and for whom, so
nothing is remembered of the challenges that are set.

The verification is our own: that of the `altcha` package takes SHA-1 too, compares signatures in
time that depends on them, and raises for JSON of other types. Challenges and solutions are tested
against ones that it made.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from gateway.challenge.port import FIELD, SolutionRefused, Solved, binding
from seckill.errors import InvalidField
from seckill.v1 import challenge_pb2

ALGORITHM = "SHA-256"
# What is signed by this secret is a challenge, and no purchase token.
PURPOSE = b"seckill challenge"
NONCE_BYTES = 12
NAME_BYTES = 16
NUMBER_MAX = 2**31 - 1
# With the delimiter at its end: without it, digits could be moved between the time and the number
# (a solution would count for longer).
_SALT = re.compile(r"[0-9a-f]{24}\?expires=(?P<expires>[0-9]{1,12})&for=(?P<holder>[0-9a-f]{32})&")
_TEXTS = ("algorithm", "challenge", "salt", "signature")


class ProofOfWork:
    """Sets and checks challenges."""

    def __init__(self, keys: Sequence[bytes], *, max_number: int, ttl_s: float) -> None:
        """
        Args:
            keys: secrets, at least one; the first signs, all verify.
            max_number: the price: half as many hashes are tried on average.
            ttl_s: how long a challenge may be solved.
        """
        self._keys = [hmac.digest(key, PURPOSE, "sha256") for key in keys]
        self._max_number = max_number
        self._ttl_s = ttl_s

    def challenge(self, user_id: str, sku: str, *, now_s: float) -> challenge_pb2.Challenge:
        """Return a new challenge for this user and sale."""
        expire_s = int(now_s + self._ttl_s)
        salt = f"{secrets.token_hex(NONCE_BYTES)}?expires={expire_s}&for={binding(user_id, sku)}&"
        hashed = _hash(salt, secrets.randbelow(self._max_number + 1))
        challenge = challenge_pb2.Challenge(
            kind=challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK,
            algorithm=ALGORITHM,
            challenge=hashed,
            salt=salt,
            signature=_sign(self._keys[0], hashed),
            max_number=self._max_number,
        )
        challenge.expire_time.FromSeconds(expire_s)
        return challenge

    async def check(
        self, solution: str, *, user_id: str, sku: str, address: str, now_s: float
    ) -> Solved:
        """Check a solution; see Challenger.check."""
        del address
        found, number = _parse(solution)
        salt = _SALT.fullmatch(found["salt"])
        if salt is None or found["algorithm"] != ALGORITHM:
            raise SolutionRefused("wrong")
        hashed = _hash(found["salt"], number)
        if hashed != found["challenge"] or not self._has_signed(hashed, found["signature"]):
            raise SolutionRefused("wrong")
        if salt["holder"] != binding(user_id, sku):
            raise SolutionRefused("foreign")
        expire_s = int(salt["expires"])
        if expire_s <= now_s:
            raise SolutionRefused("expired")
        return Solved(bytes.fromhex(hashed)[:NAME_BYTES], expire_s)

    def _has_signed(self, hashed: str, signature: str) -> bool:
        given = signature.encode()
        return any(hmac.compare_digest(_sign(key, hashed).encode(), given) for key in self._keys)


def _hash(salt: str, number: int) -> str:
    return hashlib.sha256(f"{salt}{number}".encode()).hexdigest()


def _sign(key: bytes, hashed: str) -> str:
    return hmac.digest(key, hashed.encode(), "sha256").hex()


def _parse(solution: str) -> tuple[dict[str, str], int]:
    """Return the texts of a solution, and its number; raises InvalidField."""
    try:
        decoded: Any = json.loads(base64.b64decode(solution, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidField([(FIELD, "is not base64 of JSON")]) from None
    if not isinstance(decoded, dict):
        raise InvalidField([(FIELD, "is not a JSON object")])
    texts = {}
    for name in _TEXTS:
        text = decoded.get(name)
        # Unpaired surrogates are no text that could be hashed.
        if not isinstance(text, str) or not text.isascii():
            raise InvalidField([(f"{FIELD}.{name}", "must be ASCII text")])
        texts[name] = text
    number = decoded.get("number")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= NUMBER_MAX:
        raise InvalidField([(f"{FIELD}.number", f"must be a whole number, 0 to {NUMBER_MAX}")])
    return texts, number
