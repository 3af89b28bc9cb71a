"""Who gets a purchase token of a sale that looks at risk, at a gateway behind each front."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from gateway.issue.token_gate import TokenGate
from seckill.client import (
    NotAllowed,
    SeckillClient,
    StateConflict,
    SyncSeckillClient,
    proof_of_work,
)
from seckill.v1 import (
    challenge_pb2,
    gate_pb2,
    gateway_admin_pb2,
    gateway_admin_pb2_grpc,
    gateway_pb2,
)
from seckill_cli import app
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, Metadata, details, failure, open_rig
from tests.kits.http import call

MAX_NUMBER = 2_000
SETTINGS = {
    "gateway_challenge_max_number": MAX_NUMBER,
    "gateway_trusted_proxies": "127.0.0.0/8",
    "gateway_risk_account_claim": "opened",
    "gateway_risk_fingerprint_claim": "card",
    "gateway_risk_eligibility_claims": "phone_verified",
    "gateway_risk_required_claims": "adult",
    "gateway_rate_ip": 0,
}
# Of a user whom nothing speaks against.
GOOD: dict[str, object] = {"opened": 1_000_000_000, "phone_verified": True, "adult": True}
# Young and without a verified phone: 40 points.
DOUBTFUL = GOOD | {"opened": None, "phone_verified": False}


@pytest.fixture
async def rig(front: str, tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway with claims to look at, and cheap challenges."""
    async with AsyncExitStack() as stack:
        yield await open_rig(stack, tmp_path, front, **SETTINGS)


async def sale(rig: GatewayRig, **policy: Any) -> str:
    """A sale with a policy; returns its sku."""
    sku = rig.services.inventory.put(sale_terms(units=100))
    if policy:
        rig.services.rules.policies[sku] = gate_pb2.SalePolicy(sku=sku, **policy)
        await rig.rule()
    return sku


async def ask(
    rig: GatewayRig,
    sku: str,
    user: str,
    claims: dict[str, object],
    *,
    solution: str = "",
    address: str = "",
) -> gateway_pb2.IssuePurchaseTokenResponse:
    """Ask for a purchase token."""
    metadata: Metadata = rig.identity(user, **claims)
    if address:
        metadata = (*metadata, ("x-forwarded-for", address))
    return await rig.stub.IssuePurchaseToken(
        gateway_pb2.IssuePurchaseTokenRequest(sku=sku, challenge_solution=solution),
        metadata=metadata,
        timeout=CALL_S,
    )


async def challenged(call_: Any) -> tuple[challenge_pb2.Challenge, str]:
    """The challenge that a call was answered with, and the problem of its solution."""
    error = await failure(call_)
    found = details(error)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert found["ErrorInfo"].reason == "CHALLENGE_REQUIRED"
    return found["Challenge"], found["ErrorInfo"].metadata["problem"]


def decisions() -> dict[tuple[str, str], float]:
    """Decisions so far, by tier and leading signal."""
    return {
        (sample.labels["tier"], sample.labels["signal"]): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "seckill_risk_decisions_total"
    }


async def test_a_sale_without_a_policy_does_no_risk_work(
    rig: GatewayRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody comes to the gate, whatever their claims; a policy of admission alone is none."""

    async def admit(*_: object) -> None:
        raise AssertionError("somebody came to the gate")

    monkeypatch.setattr(TokenGate, "admit", admit)
    before = decisions()
    for sku in (await sale(rig), await sale(rig, admission_multiple=2.0)):
        assert (await ask(rig, sku, new_id("user"), {})).purchase_token
    assert decisions() == before
    guarded = await sale(rig, refuse_at=100)
    error = await failure(ask(rig, guarded, new_id("user"), GOOD))
    assert error.code() is grpc.StatusCode.INTERNAL


async def test_by_score_a_caller_passes_is_challenged_or_refused(rig: GatewayRig) -> None:
    """And each decision is counted by its tier and the signal that leads."""
    sku = await sale(rig, challenge_at=30, refuse_at=70)
    before = decisions()
    assert (await ask(rig, sku, new_id("user"), GOOD)).purchase_token
    challenge, _ = await challenged(ask(rig, sku, new_id("user"), DOUBTFUL))
    assert challenge.max_number == MAX_NUMBER
    error = await failure(ask(rig, sku, new_id("user"), GOOD | {"adult": "yes"}))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert details(error)["ErrorInfo"].reason == "RISK_REFUSED"
    made = {key: count - before.get(key, 0) for key, count in decisions().items()}
    assert {key: count for key, count in made.items() if count} == {
        ("pass", "none"): 1,
        ("challenge", "age"): 1,
        ("refuse", "required_claim"): 1,
    }


async def test_a_solution_counts_once_for_its_caller_and_sale(rig: GatewayRig) -> None:
    """Elsewhere it is foreign; a second time it is spent, and another challenge comes."""
    sku, other = await sale(rig, challenge_at=30), await sale(rig, challenge_at=30)
    user = new_id("user")
    challenge, problem = await challenged(ask(rig, sku, user, DOUBTFUL))
    assert problem == ""
    solution = proof_of_work.solve(challenge)
    assert solution is not None
    for foreign in (
        ask(rig, sku, new_id("user"), DOUBTFUL, solution=solution),
        ask(rig, other, user, DOUBTFUL, solution=solution),
    ):
        assert (await challenged(foreign))[1] == "foreign"
    token = (await ask(rig, sku, user, DOUBTFUL, solution=solution)).purchase_token
    bought = await rig.buy(sku, user, token=token)
    assert bought.order_no
    again, problem = await challenged(ask(rig, sku, user, DOUBTFUL, solution=solution))
    assert (problem, again.salt != challenge.salt) == ("spent", True)
    error = await failure(ask(rig, sku, user, DOUBTFUL, solution="nonsense"))
    violation = details(error)["BadRequest"].field_violations[0]
    assert violation.field == "challenge_solution"


async def test_the_client_buys_where_a_challenge_is_asked_for(rig: GatewayRig) -> None:
    """With asyncio and with threads, without a word of it from the buyer."""
    sku = await sale(rig, challenge_at=30)
    target = f"127.0.0.1:{rig.gateway.port}"
    jwt = rig.issuer.token(new_id("user"), more=DOUBTFUL)
    async with SeckillClient(target, identity=jwt) as client:
        assert (await client.buy(sku, timeout_s=CALL_S)).reserved

    def buy() -> bool:
        token = rig.issuer.token(new_id("user"), more=DOUBTFUL)
        with SyncSeckillClient(target, identity=token) as threaded:
            return threaded.buy(sku, timeout_s=CALL_S).reserved

    assert await asyncio.to_thread(buy)


async def test_the_client_says_what_it_cannot_solve(rig: GatewayRig) -> None:
    """A hook that has no solution, and a refusal."""
    sku = await sale(rig, challenge_at=30, refuse_at=70)
    target = f"127.0.0.1:{rig.gateway.port}"
    jwt = rig.issuer.token(new_id("user"), more=DOUBTFUL)
    async with SeckillClient(target, identity=jwt, solver=lambda _: None) as client:
        with pytest.raises(StateConflict) as caught:
            await client.buy(sku, timeout_s=CALL_S)
        assert caught.value.challenge is not None
        stranger = client.acting_for(rig.issuer.token(new_id("user")))
        with pytest.raises(NotAllowed, match="RISK_REFUSED"):
            await stranger.buy(sku, timeout_s=CALL_S)


async def test_many_users_behind_one_address_are_challenged(rig: GatewayRig) -> None:
    """Those who come from elsewhere are not, nor those of a /64 beside it."""
    sku = await sale(rig, challenge_at=20)
    crowd = "2001:db8:1:2::{:x}"
    assert (await ask(rig, sku, new_id("user"), GOOD, address=crowd.format(0))).purchase_token
    await asyncio.gather(
        *(
            ask(rig, sku, new_id("user"), GOOD, address=crowd.format(number))
            for number in range(1, 61)
        ),
        return_exceptions=True,
    )
    await challenged(ask(rig, sku, new_id("user"), GOOD, address=crowd.format(99)))
    for address in ("2001:db8:1:3::1", "192.0.2.7"):
        assert (await ask(rig, sku, new_id("user"), GOOD, address=address)).purchase_token


async def test_many_users_with_one_means_of_payment_are_challenged(rig: GatewayRig) -> None:
    """From wherever they come."""
    sku = await sale(rig, challenge_at=30)
    card = new_id("card")
    users = [new_id("user") for _ in range(12)]
    assert (await ask(rig, sku, users[0], GOOD | {"card": card})).purchase_token
    for user in users[1:]:
        await asyncio.gather(ask(rig, sku, user, GOOD | {"card": card}), return_exceptions=True)
    await challenged(ask(rig, sku, new_id("user"), GOOD | {"card": card}))
    assert (await ask(rig, sku, new_id("user"), GOOD | {"card": new_id("card")})).purchase_token


@pytest.mark.parametrize("bad", [None, [], {}, {"a": [1]}, "\ud800", -1, 1e400, True, 10**300])
async def test_claims_of_any_shape_are_decided_upon(rig: GatewayRig, bad: object) -> None:
    """As if they were not there: a challenge here, and never INTERNAL."""
    sku = await sale(rig, challenge_at=30)
    claims = {"opened": bad, "phone_verified": bad if bad is not True else 1, "card": bad}
    await challenged(ask(rig, sku, new_id("user"), claims | {"adult": True}))


def operator(rig: GatewayRig) -> Metadata:
    """Metadata of an operator."""
    return (("authorization", f"Bearer {rig.issuer.token('op', roles=['operator'])}"),)


async def explain(
    rig: GatewayRig, metadata: Metadata, **request: str
) -> gateway_admin_pb2.ExplainRiskResponse:
    """Ask why."""
    stub: Any = gateway_admin_pb2_grpc.GatewayAdminServiceStub(rig.channel)
    explained: gateway_admin_pb2.ExplainRiskResponse = await stub.ExplainRisk(
        gateway_admin_pb2.ExplainRiskRequest(**request), metadata=metadata, timeout=CALL_S
    )
    return explained


async def test_a_decision_is_explained_signal_by_signal(rig: GatewayRig) -> None:
    """The last one on this user and sale, with what it knew; the sum is the score."""
    sku, user = await sale(rig, challenge_at=30, refuse_at=70), new_id("user")
    before = await explain(rig, operator(rig), user_id=user, sku=sku)
    assert not before.HasField("decision_time")
    assert (before.tier, before.score) == (gateway_admin_pb2.RISK_TIER_PASS, 0)
    await challenged(ask(rig, sku, user, DOUBTFUL, address="192.0.2.9"))
    seen = await explain(rig, operator(rig), user_id=user, sku=sku)
    assert seen.HasField("decision_time")
    assert (seen.tier, seen.leading_signal) == (gateway_admin_pb2.RISK_TIER_CHALLENGE, "age")
    assert (seen.challenge_at, seen.refuse_at) == (30, 70)
    parts = {signal.name: signal for signal in seen.signals}
    assert set(parts) == {"address", "fingerprint", "age", "eligibility", "history"}
    assert parts["eligibility"].contribution == parts["eligibility"].weight == 20
    assert sum(signal.contribution for signal in seen.signals) == pytest.approx(seen.score)
    assert seen.score == pytest.approx(40, abs=0.01)
    assert (seen.facts.claims_lacking, round(seen.facts.address_users)) == (1, 1)
    from_there = await explain(rig, operator(rig), user_id=user, sku=sku, address="192.0.2.9")
    assert not from_there.HasField("decision_time")
    assert (round(from_there.facts.address_users), from_there.facts.claims_lacking) == (1, 1)
    elsewhere = await explain(rig, operator(rig), user_id=user, sku=sku, address="192.0.2.10")
    assert elsewhere.facts.address_users == 0


async def test_the_command_explains_a_decision(rig: GatewayRig) -> None:
    """`seckill explain-risk` shows tier, signals and facts."""
    sku, user = await sale(rig, challenge_at=30, refuse_at=70), new_id("user")
    await challenged(ask(rig, sku, user, DOUBTFUL))
    token = rig.issuer.token("op", roles=["operator"])
    arguments = ["explain-risk", sku, user, "--token", token]
    arguments += ["--gateway", f"127.0.0.1:{rig.gateway.port}"]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("challenge: 40.0 points, most by age; challenged from 30")
    assert re.search(r"eligibility +1\.00 +20 +20\.0", done.output)
    assert "claims not held 1" in done.output


async def test_only_operators_have_it_explained(rig: GatewayRig) -> None:
    """A buyer is told nothing, and bad fields are named."""
    sku, user = await sale(rig, challenge_at=30), new_id("user")
    for metadata, code in (
        ((), grpc.StatusCode.UNAUTHENTICATED),
        (rig.identity(user), grpc.StatusCode.PERMISSION_DENIED),
    ):
        error = await failure(explain(rig, metadata, user_id=user, sku=sku))
        assert error.code() is code
    error = await failure(explain(rig, operator(rig), user_id="a b", sku="", address="here"))
    fields = [each.field for each in details(error)["BadRequest"].field_violations]
    assert fields == ["user_id", "sku", "address"]
    error = await failure(explain(rig, operator(rig), user_id=user, sku=new_id("sku")))
    assert details(error)["ErrorInfo"].reason == "SALE_NOT_FOUND"


@pytest.mark.parametrize("front", ["http2"])
async def test_a_page_gets_the_challenge_as_json(rig: GatewayRig) -> None:
    """The detail beside the reason; the solution goes into the body of the next call."""
    sku = await sale(rig, challenge_at=30)
    headers = {"authorization": f"Bearer {rig.issuer.token(new_id('user'), more=DOUBTFUL)}"}
    path = f"/v1/sales/{sku}:issuePurchaseToken"
    refused = await call(rig.gateway.port, "POST", path, {}, headers=headers)
    assert (refused.status, refused.reason) == (400, "CHALLENGE_REQUIRED")
    told = refused.json["details"][1]
    assert told["@type"] == "type.googleapis.com/seckill.v1.Challenge"
    assert told["kind"] == "CHALLENGE_KIND_PROOF_OF_WORK"
    solution = proof_of_work.solve(
        challenge_pb2.Challenge(
            algorithm=told["algorithm"],
            challenge=told["challenge"],
            salt=told["salt"],
            signature=told["signature"],
            max_number=told["maxNumber"],
        )
    )
    body = {"challengeSolution": solution}
    answered = await call(rig.gateway.port, "POST", path, body, headers=headers)
    assert (answered.status, bool(answered.json["purchaseToken"])) == (200, True)
