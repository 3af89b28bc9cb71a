"""Solves a challenge by computation: ALTCHA's proof of work (v1)."""

import base64
import hashlib
import json
from collections.abc import Callable

from seckill.v1 import challenge_pb2

ALGORITHM = "SHA-256"
# After so many hashes (some two milliseconds) it is asked whether to go on.
HASHES_AT_ONCE = 4_096


def solve(
    challenge: challenge_pb2.Challenge, goes_on: Callable[[], bool] = lambda: True
) -> str | None:
    """Return the solution, for IssuePurchaseTokenRequest.challenge_solution.

    It takes half of `max_number` hashes on average: 0.04 s of one core at the default of 200,000.

    Args:
        challenge: with kind PROOF_OF_WORK.
        goes_on: asked every few milliseconds; False gives up.

    Returns:
        None if it gave up, or the challenge cannot be solved.
    """
    if challenge.algorithm != ALGORITHM:
        return None
    try:
        wanted = bytes.fromhex(challenge.challenge)
    except ValueError:
        return None
    salted = hashlib.sha256(challenge.salt.encode())
    for start in range(0, challenge.max_number + 1, HASHES_AT_ONCE):
        if not goes_on():
            return None
        number = _find(salted, wanted, start, min(start + HASHES_AT_ONCE, challenge.max_number + 1))
        if number is not None:
            return _encode(challenge, number)
    return None


def _find(salted: "hashlib._Hash", wanted: bytes, start: int, end: int) -> int | None:
    copy = salted.copy
    for number in range(start, end):
        candidate = copy()
        candidate.update(b"%d" % number)
        if candidate.digest() == wanted:
            return number
    return None


def _encode(challenge: challenge_pb2.Challenge, number: int) -> str:
    """Return what ALTCHA's widget makes of a number."""
    solution = {
        "algorithm": challenge.algorithm,
        "challenge": challenge.challenge,
        "number": number,
        "salt": challenge.salt,
        "signature": challenge.signature,
    }
    return base64.b64encode(json.dumps(solution).encode()).decode()
