"""The client solves what a sale asks for before it gives a purchase token."""

import asyncio
import base64
import hashlib
import json
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from seckill.client import flows, proof_of_work
from seckill.client.challenges import solve, solve_aio
from seckill.client.errors import CallFailed, StateConflict, call_failed
from seckill.client.retry import Deadline, RetryPolicy
from seckill.errors import ChallengeRequired
from seckill.status import trailing_metadata
from seckill.v1 import challenge_pb2, gateway_pb2, inventory_pb2

WORK = challenge_pb2.Challenge(
    kind=challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK,
    algorithm="SHA-256",
    challenge=hashlib.sha256(b"salt&7").hexdigest(),
    salt="salt&",
    signature="signed",
    max_number=100,
)
ENDLESS = challenge_pb2.Challenge(
    kind=challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK,
    algorithm="SHA-256",
    challenge="00" * 32,
    salt="salt&",
    max_number=2**31 - 1,
)
ATTESTATION = challenge_pb2.Challenge(
    kind=challenge_pb2.CHALLENGE_KIND_ATTESTATION, site_key="site", challenge="bound"
)


def asked_for(challenge: challenge_pb2.Challenge, problem: str = "") -> CallFailed:
    """What the client makes of CHALLENGE_REQUIRED."""
    error = ChallengeRequired(challenge, sku="phone", problem=problem)
    return call_failed(error.code, str(error), dict(trailing_metadata(error)))


def drive(*replies: object) -> tuple[Any, list[flows.Step]]:
    """Buy against scripted replies; return what came of it, and the steps."""
    deadline = Deadline(RetryPolicy(), 10.0, lambda: 0.0, random.Random(1))
    flow = flows.buy(deadline, "phone", 1, "r1")
    steps: list[flows.Step] = []
    reply: object = None
    script = list(replies)
    try:
        while True:
            step = flows.resume(flow, reply)
            if isinstance(step, flows.Ask):
                sent = type(step.request).FromString(step.request.SerializeToString())
                step = flows.Ask(method=step.method, request=sent, timeout_s=step.timeout_s)
            steps.append(step)
            reply = script.pop(0)
    except StopIteration as done:
        return done.value, steps
    except CallFailed as failure:
        return failure, steps


TOKEN = gateway_pb2.IssuePurchaseTokenResponse(purchase_token="t1")
RESERVED = gateway_pb2.PurchaseResponse(outcome=inventory_pb2.PURCHASE_OUTCOME_RESERVED)


def test_a_challenge_is_solved_and_the_token_asked_for_with_the_solution() -> None:
    """As often as a solution does not count, up to three times."""
    late = asked_for(ENDLESS, "expired")
    bought, steps = drive(asked_for(WORK), "first", late, "second", TOKEN, RESERVED)
    assert bought.reserved
    solves = [step for step in steps if isinstance(step, flows.Solve)]
    assert [step.challenge for step in solves] == [WORK, ENDLESS]
    assert [step.timeout_s for step in solves] == [10.0, 10.0]
    asks = [step.request for step in steps if isinstance(step, flows.Ask)]
    sent = [ask.challenge_solution for ask in asks[:3]]  # type: ignore[attr-defined]
    assert sent == ["", "first", "second"]


def test_solutions_that_never_count_end_the_purchase() -> None:
    """The fourth refusal is the caller's; it has the challenge, and says why."""
    again = asked_for(WORK, "wrong")
    failure, steps = drive(again, "1", again, "2", again, "3", again)
    assert isinstance(failure, StateConflict)
    assert (failure.reason, failure.challenge) == ("CHALLENGE_REQUIRED", WORK)
    assert failure.metadata == {"sku": "phone", "problem": "wrong"}
    assert len([step for step in steps if isinstance(step, flows.Solve)]) == 3


def test_what_nobody_can_solve_is_told_as_it_is() -> None:
    """Nothing was bought."""
    failure, _ = drive(asked_for(ATTESTATION), None)
    assert isinstance(failure, StateConflict)
    assert failure.challenge == ATTESTATION


def test_the_number_is_found_wherever_it_is() -> None:
    """At both ends, and where a round of hashes ends."""
    for number in (0, 4_095, 4_096, 5_000):
        challenge = challenge_pb2.Challenge(
            algorithm="SHA-256",
            salt="s?expires=1&",
            challenge=hashlib.sha256(b"s?expires=1&%d" % number).hexdigest(),
            signature="x",
            max_number=5_000,
        )
        solution = proof_of_work.solve(challenge)
        assert solution is not None
        assert json.loads(base64.b64decode(solution)) == {
            "algorithm": "SHA-256",
            "challenge": challenge.challenge,
            "number": number,
            "salt": "s?expires=1&",
            "signature": "x",
        }


@pytest.mark.parametrize(
    "changes", [{"algorithm": "SHA-512"}, {"challenge": "no hash"}, {"challenge": "00" * 32}]
)
def test_what_cannot_be_computed_has_no_solution(changes: dict[str, str]) -> None:
    """Another hash function, no hash at all, a hash that no number has."""
    challenge = challenge_pb2.Challenge()
    challenge.CopyFrom(WORK)
    for name, value in changes.items():
        setattr(challenge, name, value)
    assert proof_of_work.solve(challenge) is None


async def test_computing_stops_at_the_deadline() -> None:
    """Of a challenge that would take a quarter of an hour."""
    assert solve(ENDLESS, solver=None, timeout_s=0.05) is None
    assert await solve_aio(ENDLESS, solver=None, timeout_s=0.05) is None


def test_computing_stops_with_the_call() -> None:
    """A task that is cancelled leaves no thread behind that goes on for a quarter of an hour."""

    async def cancelled() -> None:
        task = asyncio.create_task(solve_aio(ENDLESS, solver=None, timeout_s=600))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # The loop's end waits for the threads that it has started.
    loop = threading.Thread(target=lambda: asyncio.run(cancelled()), daemon=True)
    loop.start()
    loop.join(10)
    assert not loop.is_alive()


async def _said_later(challenge: challenge_pb2.Challenge) -> str:
    await asyncio.sleep(0)
    return challenge.site_key


async def _never(_challenge: challenge_pb2.Challenge) -> str:
    await asyncio.Event().wait()
    return ""


@pytest.mark.parametrize(
    ("solver", "solution"),
    [(lambda given: given.site_key, "site"), (_said_later, "site"), (_never, None)],
)
async def test_a_hook_solves_what_the_client_cannot(
    solver: Callable[[challenge_pb2.Challenge], str | Awaitable[str]], solution: str | None
) -> None:
    """Plain or async; one that takes too long has none. Without a hook there is none."""
    assert await solve_aio(ATTESTATION, solver=solver, timeout_s=0.05) == solution  # type: ignore[arg-type]
    assert await solve_aio(ATTESTATION, solver=None, timeout_s=0.05) is None
    assert solve(ATTESTATION, solver=lambda given: given.site_key, timeout_s=1) == "site"
    assert solve(ATTESTATION, solver=None, timeout_s=1) is None
