"""Challenges: a solution counts once, for one user and sale, until it expires."""

import asyncio
import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.challenge.challenges import Challenges
from gateway.challenge.port import FIELD, SolutionRefused
from gateway.challenge.proof_of_work import ProofOfWork
from gateway.challenge.spent import LocalSpentSolutions
from seckill.client import proof_of_work
from seckill.errors import ChallengeRequired, InvalidField, Overloaded
from seckill.v1 import challenge_pb2

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW_S = 1_800_000_000.0
TTL_S = 60.0
WORK = ProofOfWork([KEY], max_number=2_000, ttl_s=TTL_S)
# Made by the `altcha` package 2.3.0 (create_challenge_v1, number 4321) with the derived key.
ALTCHA = challenge_pb2.Challenge(
    kind=challenge_pb2.CHALLENGE_KIND_PROOF_OF_WORK,
    algorithm="SHA-256",
    challenge="6f4cea0a7e84d46447d711ddf41d340a9b4ad1ee8bee100414374763c45a1df9",
    salt="00112233445566778899aabb?expires=1800000060&for=d51a9b8dfa2212e6bf9e4b0b45d8234b&",
    signature="3bf9019cbdf85df9fb45d7c225a7f33b856dc38a5f8398b6a01520c571894646",
    max_number=10_000,
)


def solved(challenge: challenge_pb2.Challenge, /, **changes: Any) -> str:
    """The solution, with changes to what it says; None takes a name out."""
    solution = proof_of_work.solve(challenge)
    assert solution is not None
    said = json.loads(base64.b64decode(solution)) | changes
    said = {name: value for name, value in said.items() if value is not None}
    return encoded(said)


def encoded(said: object) -> str:
    """Return JSON as it is sent."""
    return base64.b64encode(json.dumps(said).encode()).decode()


async def problem(
    solution: str,
    *,
    work: ProofOfWork = WORK,
    user: str = "u-1",
    sku: str = "phone",
    at_s: float = NOW_S,
) -> str:
    """Why it does not count; empty if it does."""
    try:
        await work.check(solution, user_id=user, sku=sku, address="", now_s=at_s)
    except SolutionRefused as refused:
        return refused.problem
    return ""


def new_challenge(work: ProofOfWork = WORK) -> challenge_pb2.Challenge:
    """A challenge for u-1 and phone."""
    return work.challenge("u-1", "phone", now_s=NOW_S)


async def test_a_solution_counts_for_its_user_and_sale_until_it_expires() -> None:
    """To the last second, and not one longer."""
    challenge = new_challenge()
    solution = solved(challenge)
    assert challenge.expire_time.seconds == NOW_S + TTL_S
    assert await problem(solution) == ""
    assert await problem(solution, at_s=NOW_S + TTL_S - 1) == ""
    assert await problem(solution, at_s=NOW_S + TTL_S) == "expired"
    assert await problem(solution, user="u-2") == "foreign"
    assert await problem(solution, sku="phones") == "foreign"


async def test_challenges_are_those_of_altcha() -> None:
    """One that its own package made is solved by our client, and its solution counts."""
    solution = solved(ALTCHA)
    assert json.loads(base64.b64decode(solution))["number"] == 4_321
    assert await problem(solution) == ""


async def test_replicas_with_the_same_keys_know_each_others_challenges() -> None:
    """Also while the key is changed; a stranger's signature counts nowhere."""
    solution = solved(new_challenge())
    assert await problem(solution, work=ProofOfWork([OTHER_KEY, KEY], max_number=9, ttl_s=1)) == ""
    stranger = ProofOfWork([OTHER_KEY], max_number=9, ttl_s=1)
    assert await problem(solution, work=stranger) == "wrong"


async def test_a_solution_that_was_altered_is_wrong() -> None:
    """The number, the hash, the signature, the hash function, the salt's time and holder."""
    challenge = new_challenge()
    number = json.loads(base64.b64decode(solved(challenge)))["number"]
    later = challenge.salt.replace(f"expires={int(NOW_S + TTL_S)}", "expires=1900000000")
    for changes in (
        {"number": number + 1},
        {"challenge": "0" * 64},
        {"signature": "0" * 64},
        {"signature": ""},
        {"algorithm": "SHA-1"},
        {"algorithm": "SHA-512"},
        {"salt": later},
        {"salt": challenge.salt.replace("&for=", "&for=0")},
    ):
        assert await problem(solved(challenge, **changes)) == "wrong", changes


async def test_digits_cannot_move_between_the_salt_and_the_number() -> None:
    """The hash would be the same, and the signature would hold: the salt must end as we end it."""
    challenge = new_challenge()
    number = json.loads(base64.b64decode(solved(challenge)))["number"]
    text = str(number)
    if len(text) > 1 and text[1] != "0":
        moved = solved(challenge, salt=challenge.salt + text[0], number=int(text[1:]))
        assert await problem(moved) == "wrong"
    assert await problem(solved(challenge, salt=challenge.salt[:-1])) == "wrong"


async def test_easier_work_is_not_taken() -> None:
    """A challenge of one's own, with a number that costs nothing, lacks the signature."""
    easy = ProofOfWork([b"a" * 32], max_number=0, ttl_s=TTL_S).challenge(
        "u-1", "phone", now_s=NOW_S
    )
    real = new_challenge()
    assert await problem(solved(easy, signature=real.signature)) == "wrong"
    # The bound is no part of what is signed: a lower one only keeps the number from being found.
    real.max_number = -1
    assert proof_of_work.solve(real) is None


@pytest.mark.parametrize(
    ("solution", "field"),
    [
        ("***", FIELD),
        ("e30", FIELD),
        (base64.b64encode(b"\xff\xfe").decode(), FIELD),
        (base64.b64encode(b"[" * 1_500 + b"]" * 1_500).decode(), FIELD),
        (base64.b64encode(b'{"number":' + b"9" * 2_900 + b"}").decode(), f"{FIELD}.algorithm"),
        (encoded([]), FIELD),
        (encoded(5), FIELD),
        (solved(ALTCHA, salt=None), f"{FIELD}.salt"),
        (solved(ALTCHA, salt=7), f"{FIELD}.salt"),
        (solved(ALTCHA, signature="\ud800"), f"{FIELD}.signature"),
        (solved(ALTCHA, number=True), f"{FIELD}.number"),
        (solved(ALTCHA, number="4321"), f"{FIELD}.number"),
        (solved(ALTCHA, number=-1), f"{FIELD}.number"),
        (solved(ALTCHA, number=10**30), f"{FIELD}.number"),
        (solved(ALTCHA, number=4321.0), f"{FIELD}.number"),
    ],
)
async def test_a_malformed_solution_is_named(solution: str, field: str) -> None:
    """By the field that is wrong."""
    with pytest.raises(InvalidField) as refused:
        await problem(solution)
    assert refused.value.violations[0][0] == field


NAMES = ["algorithm", "challenge", "number", "salt", "signature"]
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@given(
    said=any_json
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(NAMES, any_json),
    ),
    text=st.none() | st.text(max_size=50),
)
def test_any_solution_is_answered(said: object, text: str | None) -> None:
    """Counted, refused or malformed; no other exception."""
    solution = encoded(said) if text is None else text
    with suppress(InvalidField):
        assert asyncio.run(problem(solution)) != ""


async def test_a_solution_counts_once() -> None:
    """The second time it is spent, and a new challenge comes with the answer."""
    challenges = Challenges(WORK, LocalSpentSolutions(10))
    solution = solved(new_challenge())

    async def ask(solution: str) -> None:
        await challenges.require_solution(
            solution, user_id="u-1", sku="phone", address="", now_s=NOW_S
        )

    await ask(solution)
    with pytest.raises(ChallengeRequired) as refused:
        await ask(solution)
    assert refused.value.metadata == {"sku": "phone", "problem": "spent"}
    await ask(solved(refused.value.challenge))
    with pytest.raises(InvalidField, match="more than 4096"):
        await ask("x" * 4_097)


async def test_a_full_table_of_spent_solutions_refuses_more_and_forgets_none_early() -> None:
    """What is forgotten could be used a second time; expired ones make room, by tens of seconds."""
    spent = LocalSpentSolutions(2)
    assert await spent.spend(b"1", expire_s=11, now_s=0)
    assert await spent.spend(b"2", expire_s=60, now_s=0)
    assert not await spent.spend(b"1", expire_s=11, now_s=10.9)
    with pytest.raises(Overloaded):
        await spent.spend(b"3", expire_s=60, now_s=10.9)
    assert not await spent.spend(b"2", expire_s=60, now_s=20)
    assert await spent.spend(b"3", expire_s=60, now_s=20)
    assert len(spent) == 2
