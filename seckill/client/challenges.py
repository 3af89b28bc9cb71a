"""Solves the challenges that a sale asks for: by computation here, all others by the caller's hook.

Computing is done away from the event loop; it stops at the deadline of the call, and when the call
is cancelled.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from seckill.client import proof_of_work
from seckill.v1 import challenge_pb2

# Given a challenge, returns its solution; None if it has none.
SyncSolver: TypeAlias = Callable[[challenge_pb2.Challenge], str | None]
Solver: TypeAlias = SyncSolver | Callable[[challenge_pb2.Challenge], Awaitable[str | None]]


def solve(
    challenge: challenge_pb2.Challenge, *, solver: SyncSolver | None, timeout_s: float
) -> str | None:
    """Return the solution, None if there is none in time."""
    if solver is not None:
        return solver(challenge)
    if challenge.kind != challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK:
        return None
    end_s = time.monotonic() + timeout_s
    return proof_of_work.solve(challenge, lambda: time.monotonic() < end_s)


async def solve_aio(
    challenge: challenge_pb2.Challenge, *, solver: Solver | None, timeout_s: float
) -> str | None:
    """As `solve`, in a thread of its own."""
    if solver is not None:
        found = solver(challenge)
        if not inspect.isawaitable(found):
            return found
        try:
            return await asyncio.wait_for(found, timeout_s)
        except TimeoutError:
            return None
    if challenge.kind != challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK:
        return None
    end_s = time.monotonic() + timeout_s
    given_up = threading.Event()

    def goes_on() -> bool:
        return not given_up.is_set() and time.monotonic() < end_s

    try:
        return await asyncio.to_thread(proof_of_work.solve, challenge, goes_on)
    finally:
        given_up.set()
