"""The drill's callers at a gateway whose gate is on as in the drill."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench.bots.callers import DAY_S, Caller, Kind
from bench.bots.gates import gates
from bench.bots.identities import mint
from bench.bots.pace import Pace
from bench.bots.solving import slow_solver
from bench.bots.visits import HAMMER_UNTIL_S, AddressedClient, Visit, hammer, visit
from seckill.v1 import gate_pb2
from seckill_cli.load.link import Link
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import GatewayRig, open_rig

# So long before its end a script comes, in seconds.
HAMMERS_S = 0.5
GATE = gates(1.0, 1_000)[1]
PERSON = Caller(
    kind=Kind.PERSON,
    user_id="person",
    address="10.0.0.1",
    arrives_s=0.0,
    account_age_s=1_000 * DAY_S,
    fingerprint="card",
    phone_verified=True,
)
DOUBTFUL = replace(PERSON, account_age_s=0.0, phone_verified=False)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway with the drill's settings."""
    settings = {
        name.removeprefix("SECKILL_").lower(): value for name, value in GATE.settings.items()
    }
    async with AsyncExitStack() as stack:
        yield await open_rig(
            stack,
            tmp_path,
            "http2",
            gateway_trusted_proxies="127.0.0.0/8",
            gateway_ip_exempt="",
            **settings,
        )


async def guarded_sale(rig: GatewayRig, *, units: int = 10) -> str:
    """Return the sku of a sale with the drill's policy."""
    sku = rig.services.inventory.put(sale_terms(units=units))
    rig.services.rules.policies[sku] = gate_pb2.SalePolicy(
        sku=sku, challenge_at=GATE.challenge_at, refuse_at=GATE.refuse_at
    )
    await rig.rule()
    return sku


async def come(rig: GatewayRig, sku: str, caller: Caller) -> Visit:
    """Let a caller come now, under an id of their own."""
    caller = replace(caller, user_id=new_id("user"))
    jwt = mint(rig.issuer, [caller])[caller.user_id]
    target = f"127.0.0.1:{rig.gateway.port}"
    now_s = time.time()
    if caller.kind is Kind.NAIVE:
        pace = Pace(starts_s=now_s - HAMMER_UNTIL_S + HAMMERS_S, slow=1.0)
        link = Link(target)
        try:
            return await hammer(link, caller, jwt, sku=sku, pace=pace)
        finally:
            link.close()
    pace = Pace(starts_s=now_s, slow=1.0)
    async with AddressedClient(
        target, solver=slow_solver(pace, scale=1.0, hashes_per_s=1e12)
    ) as client:
        return await visit(client, caller, jwt, sku=sku, pace=pace)


async def test_by_score_the_drills_callers_buy_solve_or_leave(rig: GatewayRig) -> None:
    """Nothing is asked of people with a good name; of doubtful ones a proof; a script has none."""
    sku = await guarded_sale(rig)
    good = await come(rig, sku, PERSON)
    assert (good.ending, good.answered, good.calls, good.challenges) == ("RESERVED", True, 2, 0)
    doubtful = await come(rig, sku, DOUBTFUL)
    assert (doubtful.ending, doubtful.calls, doubtful.challenges) == ("RESERVED", 3, 1)
    assert doubtful.hashes > 0
    script = await come(rig, sku, replace(DOUBTFUL, kind=Kind.NAIVE))
    assert (script.ending, script.answered) == ("CHALLENGE_REQUIRED", False)
    assert script.calls == script.challenges > 1


async def test_a_range_with_few_cards_is_refused(rig: GatewayRig) -> None:
    """The address that the proxy names is the one that is judged, and so is the card."""
    sku = await guarded_sale(rig)
    naive = replace(DOUBTFUL, address="203.0.113.7")
    endings = [(await come(rig, sku, naive)).ending for _ in range(8)]
    assert endings[0] == "RESERVED"
    assert endings[-1] == "RISK_REFUSED"


async def test_a_script_keeps_its_token_and_stops_when_it_has_a_unit(rig: GatewayRig) -> None:
    """At a sale that asks for nothing it buys with two calls."""
    sku = rig.services.inventory.put(sale_terms(units=1))
    first = await come(rig, sku, replace(DOUBTFUL, kind=Kind.NAIVE))
    assert (first.ending, first.answered, first.calls) == ("RESERVED", True, 2)
    second = await come(rig, sku, replace(DOUBTFUL, kind=Kind.NAIVE))
    assert (second.ending, second.answered, second.calls) == ("SOLD_OUT", True, 2)


async def test_who_comes_too_early_comes_again(rig: GatewayRig) -> None:
    """A person who is told that the sale has not started is there once it has."""
    sku = rig.services.inventory.put(sale_terms(units=1, starts_in_s=60))
    seen = await come(rig, sku, replace(PERSON, arrives_s=-1.0, again_s=0.01))
    assert (seen.ending, seen.answered, seen.calls) == ("NOT_STARTED", True, 4)
