"""What a kind of challenge has to do."""

import hashlib
from typing import Literal, NamedTuple, Protocol

from seckill.v1 import challenge_pb2

Problem = Literal["wrong", "expired", "spent", "foreign"]
FIELD = "challenge_solution"
SOLUTION_CHARS_MAX = 4_096
BINDING_BYTES = 16


class SolutionRefused(Exception):
    """A solution does not count; `problem` says why, to the caller too."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Solved(NamedTuple):
    """A solution that is right, and may not have been used before.

    Attributes:
        name: 16 bytes by which it is remembered once used; the caller cannot choose them.
        expire_s: Unix time until which it must be remembered.
    """

    name: bytes
    expire_s: float


class Challenger(Protocol):
    """Sets challenges and checks their solutions; it remembers neither."""

    def challenge(self, user_id: str, sku: str, *, now_s: float) -> challenge_pb2.Challenge:
        """Return a challenge for this user and sale; `now_s` is Unix time."""

    async def check(
        self, solution: str, *, user_id: str, sku: str, address: str, now_s: float
    ) -> Solved:
        """Check a solution.

        Args:
            solution: as the caller sent it, at most SOLUTION_CHARS_MAX characters.
            address: the caller's, as Admission.address names it; may be empty.
            now_s: Unix time.

        Raises:
            InvalidField: it is malformed.
            SolutionRefused: it does not count.
            DependencyUnavailable, Overloaded: it cannot be checked now.
        """


def binding(user_id: str, sku: str) -> str:
    """Return what ties a challenge to a user and a sale; neither can be read from it."""
    # A user id has no control characters.
    digest = hashlib.sha256(f"{user_id}\0{sku}".encode()).digest()
    return digest[:BINDING_BYTES].hex()
