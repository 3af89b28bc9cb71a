"""Challenges: solved for real at a small part of their price, and waited for at the whole of it.

A thousand callers who solve at once have cores of their own, and here they would share ours. So the
gateway asks for a smaller number, whose solution is computed; the rest of the work is slept by a
caller, and counted in hashes at the price that the drill is about.
"""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable

from bench.bots.pace import Pace
from seckill.client import proof_of_work
from seckill.v1 import challenge_pb2

DRILL_MAX_NUMBER = 2_000
# A person's device, by the page in docs/gate.md: 10 to 12 microseconds a hash.
PERSON_HASHES_PER_S = 90_000.0
# What an attacker solves at the same time, each as fast as this machine does it.
ATTACKER_CORES = 32
MEASURED_HASHES = 200_000

Solver = Callable[[challenge_pb2.Challenge], Awaitable[str | None]]


def measure_hash_s() -> float:
    """Return the seconds of CPU that one hash takes here."""
    unsolvable = challenge_pb2.Challenge(
        algorithm=proof_of_work.ALGORITHM,
        challenge="00" * 32,
        salt="drill",
        max_number=MEASURED_HASHES - 1,
    )
    before_s = time.thread_time()
    proof_of_work.solve(unsolvable)
    return (time.thread_time() - before_s) / MEASURED_HASHES


def hashes_of(solution: str) -> int:
    """Return the hashes that a solution took."""
    return int(json.loads(base64.b64decode(solution))["number"]) + 1


def slow_solver(
    pace: Pace, *, scale: float, hashes_per_s: float, cores: int | None = None
) -> Solver:
    """Return a solver that takes as long as a challenge of the whole price does.

    Args:
        pace: clock of the sale.
        scale: how many times the hashes that a solution took make the whole price.
        hashes_per_s: of one core, or of one person's device.
        cores: challenges that are solved at the same time; None: each caller has their own device.
    """
    slots = asyncio.Semaphore(cores) if cores else None

    async def solve(challenge: challenge_pb2.Challenge) -> str | None:
        solution = proof_of_work.solve(challenge)
        if solution is None:
            return None
        seconds = scale * hashes_of(solution) / hashes_per_s
        if slots is None:
            await pace.pause(seconds)
        else:
            async with slots:
                await pace.pause(seconds)
        return solution

    return solve
