"""The drill of bench/bots: who is drawn, what they do, and how units are counted."""

import base64
import json
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network
from statistics import median
from typing import Any

import grpc
import jwt
import pytest
from google.rpc import error_details_pb2, status_pb2

from bench.bots.attackers import (
    ACCOUNTS_IDENTITIES,
    DISTRIBUTED_ADDRESSES,
    DISTRIBUTED_IDENTITIES,
    NAIVE_IDENTITIES,
    NAIVE_NETWORK,
    draw_attackers,
)
from bench.bots.callers import ATTACKERS, DAY_S, REACTION_MAX_S, REACTION_MIN_S, Caller, Kind
from bench.bots.gates import RATES, gates
from bench.bots.identities import ACCOUNT_CLAIM, FINGERPRINT_CLAIM, PHONE_CLAIM, mint
from bench.bots.people import draw_people
from bench.bots.shares import count_shares, count_spent, describe, late_s, share_as_drawn
from bench.bots.solving import hashes_of
from bench.bots.table import lines
from bench.bots.visits import Visit
from gateway.settings import GatewaySettings
from seckill.client import Call
from seckill.client.errors import DETAILS_KEY, CallFailed, call_failed
from seckill.runtime.dev_issuer import load_or_create
from seckill.v1 import gateway_pb2

PEOPLE = draw_people(5_000, seed=1, tag="sale")


def failure(reason: str) -> CallFailed:
    """Return a failed call with this reason."""
    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="seckill"))
    return call_failed(
        grpc.StatusCode.FAILED_PRECONDITION, "", {DETAILS_KEY: status.SerializeToString()}
    )


def visit(user_id: str, *, answered: bool = True, challenges: int = 0, hashes: int = 0) -> Visit:
    """Return what became of a caller."""
    return Visit(
        user_id=user_id,
        ending="SOLD_OUT",
        answered=answered,
        challenges=challenges,
        hashes=hashes,
    )


def test_a_seed_draws_the_same_people_for_every_sale() -> None:
    """Only ids and cards name the sale; another seed draws others."""

    def without_names(people: list[Caller]) -> list[Caller]:
        return [replace(one, user_id="", fingerprint="") for one in people]

    again = draw_people(5_000, seed=1, tag="another")
    assert without_names(again) == without_names(PEOPLE)
    assert not {one.user_id for one in again} & {one.user_id for one in PEOPLE}
    assert without_names(draw_people(5_000, seed=2, tag="sale")) != without_names(PEOPLE)


def test_people_react_like_people() -> None:
    """Half of them within 1.2 s, a few too early, none as fast as a script."""
    in_time = [one.arrives_s for one in PEOPLE if one.arrives_s >= 0]
    assert 0.03 < 1 - len(in_time) / len(PEOPLE) < 0.05
    assert all(-1.5 <= one.arrives_s <= REACTION_MAX_S for one in PEOPLE)
    assert min(in_time) >= REACTION_MIN_S
    assert median(in_time) == pytest.approx(1.2, rel=0.05)
    assert all(REACTION_MIN_S <= one.again_s <= REACTION_MAX_S for one in PEOPLE)
    assert {one.retries for one in PEOPLE} == {1, 2}


def test_most_people_have_an_address_of_their_own() -> None:
    """Some share one with an office, some with a carrier's other customers."""
    behind = Counter(one.address for one in PEOPLE)
    alone = sum(count == 1 for count in behind.values())
    assert 0.78 < alone / len(PEOPLE) < 0.83
    assert sorted(count for count in behind.values() if count > 1)[-3:] == [100, 100, 100]
    assert Counter(behind.values())[25] > 20


def test_people_have_accounts_of_all_ages() -> None:
    """Some have come for this sale alone; most have a verified phone and a card of their own."""
    young = sum(one.account_age_s < 30 * DAY_S for one in PEOPLE) / len(PEOPLE)
    assert 0.07 < young < 0.12
    assert 0.86 < sum(one.phone_verified for one in PEOPLE) / len(PEOPLE) < 0.90
    cards = Counter(one.fingerprint for one in PEOPLE)
    assert 0.93 < len(cards) / len(PEOPLE) < 0.95
    assert max(cards.values()) < 6


def test_naive_attackers_come_early_from_one_range() -> None:
    """Hundreds of new accounts with a handful of cards."""
    bots = draw_attackers(Kind.NAIVE, seed=1, tag="sale")
    assert len({one.user_id for one in bots}) == NAIVE_IDENTITIES
    assert all(ip_address(one.address) in ip_network(NAIVE_NETWORK) for one in bots)
    assert all(-2 <= one.arrives_s <= 0 for one in bots)
    assert len({one.fingerprint for one in bots}) == 12


def test_distributed_attackers_have_a_thousand_addresses_and_a_human_pace() -> None:
    """None of them is a person's."""
    bots = draw_attackers(Kind.DISTRIBUTED, seed=1, tag="sale")
    addresses = Counter(one.address for one in bots)
    assert (len(bots), len(addresses)) == (DISTRIBUTED_IDENTITIES, DISTRIBUTED_ADDRESSES)
    assert not addresses.keys() & {one.address for one in PEOPLE}
    assert median(one.arrives_s for one in bots) == pytest.approx(1.2, rel=0.1)
    assert min(one.arrives_s for one in bots) >= REACTION_MIN_S


def test_account_buyers_look_like_people() -> None:
    """Old accounts, each with an address and a card of its own, at a human pace."""
    bots = draw_attackers(Kind.ACCOUNTS, seed=1, tag="sale")
    assert len({one.address for one in bots}) == ACCOUNTS_IDENTITIES
    assert len({one.fingerprint for one in bots}) == ACCOUNTS_IDENTITIES
    assert all(one.phone_verified and one.account_age_s > 100 * DAY_S for one in bots)
    assert median(one.arrives_s for one in bots) == pytest.approx(1.2, rel=0.15)


def test_a_person_is_no_attacker() -> None:
    """People are drawn by their own rules alone."""
    with pytest.raises(ValueError, match="no attacker"):
        draw_attackers(Kind.PERSON, seed=1, tag="sale")


def test_identities_say_what_the_signals_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The claims are those that the gate that is on is told to read."""
    issuer = load_or_create(tmp_path_factory.mktemp("secrets"))
    one = PEOPLE[0]
    claims = jwt.decode(
        mint(issuer, [one])[one.user_id],
        issuer.key,
        algorithms=["HS256"],
        audience=issuer.audience,
        issuer=issuer.issuer,
    )
    assert claims["sub"] == one.user_id
    assert claims["iat"] - claims[ACCOUNT_CLAIM] == pytest.approx(one.account_age_s, abs=1)
    assert claims[FINGERPRINT_CLAIM] == one.fingerprint
    assert claims[PHONE_CLAIM] is one.phone_verified
    on = gates(1.0, 1_000)[1].settings
    assert on["SECKILL_GATEWAY_RISK_ACCOUNT_CLAIM"] == ACCOUNT_CLAIM
    assert on["SECKILL_GATEWAY_RISK_FINGERPRINT_CLAIM"] == FINGERPRINT_CLAIM
    assert on["SECKILL_GATEWAY_RISK_ELIGIBILITY_CLAIMS"] == PHONE_CLAIM


def test_the_gate_is_off_or_at_its_defaults() -> None:
    """Slow motion divides the rates and stretches lives; nothing else differs from the defaults."""
    off, on = gates(4.0, 1_000)
    fields = GatewaySettings.model_fields
    assert float(off.settings["SECKILL_GATEWAY_ADMISSION_MULTIPLE"]) == 0
    for name in RATES:
        variable = f"SECKILL_{name.upper()}"
        assert float(off.settings[variable]) == 0
        assert float(on.settings[variable]) == fields[name].default / 4
    for gate in (off, on):
        assert float(gate.settings["SECKILL_GATEWAY_TOKEN_TTL_S"]) == 40
    assert (off.challenge_at, off.refuse_at, off.unpaid_orders_max) == (0, 0, 0)
    assert 0 < on.challenge_at < on.refuse_at
    assert on.switched_on["gateway_rate_user"] == fields["gateway_rate_user"].default


def test_units_are_counted_as_the_database_has_them() -> None:
    """Shares are of all units and of all people."""
    people = [visit("p1", challenges=2), visit("p2"), visit("p3", answered=False), visit("p4")]
    shares = count_shares({"p1": 1, "b1": 1, "b2": 2}, people=people, bots={"b1", "b2", "b3"})
    assert (shares.units, shares.bot_units, shares.bot_share) == (4, 3, 0.75)
    assert (shares.people_challenged, shares.people_refused) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("sold", "problem"), [({}, "nothing was sold"), ({"p1": 1, "who": 1}, "nobody who came")]
)
def test_what_cannot_be_counted_is_no_figure(sold: dict[str, int], problem: str) -> None:
    """A sale that sold nothing, or to a stranger, is a fault of the drill."""
    with pytest.raises(ValueError, match=problem):
        count_shares(sold, people=[visit("p1")], bots={"b1"})


def test_first_come_first_served_is_what_the_gate_is_measured_against() -> None:
    """All for a script; their share of identities for those who are as fast as people."""
    shares = {
        kind: share_as_drawn(PEOPLE, draw_attackers(kind, seed=1, tag="sale"), units=500)
        for kind in ATTACKERS
    }
    assert shares[Kind.NAIVE] == 1
    assert shares[Kind.DISTRIBUTED] == pytest.approx(2_000 / 7_000, abs=0.05)
    assert shares[Kind.ACCOUNTS] == pytest.approx(500 / 5_500, abs=0.03)


def test_what_an_attacker_pays_is_told_for_each_unit() -> None:
    """CPU of calls and of solutions; a unit that none got has no price."""
    callers = draw_attackers(Kind.NAIVE, seed=1, tag="sale")
    visits = [visit("b1", hashes=1_000_000), visit("b2", hashes=500_000)]
    spent = count_spent(callers, visits, cpu_s=0.5, hash_s=1e-6)
    assert (spent.cpu_s, spent.addresses, spent.accounts) == (2.0, 254, 600)
    assert spent.per_unit(4) == {"cpu_s": 0.5, "addresses": 63.5, "accounts": 150.0}
    assert spent.per_unit(0) == {"cpu_s": None, "addresses": None, "accounts": None}


def test_a_visit_counts_its_calls_challenges_and_solutions() -> None:
    """An outcome that came as a status is no failure; a solution that is sent twice counts once."""
    seen = Visit(user_id="p1")
    text = base64.b64encode(json.dumps({"number": 999}).encode()).decode()
    asked = gateway_pb2.IssuePurchaseTokenRequest(sku="s")
    solved = gateway_pb2.IssuePurchaseTokenRequest(sku="s", challenge_solution=text)
    bought = gateway_pb2.PurchaseRequest(sku="s")
    for method, request, why in (
        ("IssuePurchaseToken", asked, failure("CHALLENGE_REQUIRED")),
        ("IssuePurchaseToken", solved, failure("RATE_LIMITED")),
        ("IssuePurchaseToken", solved, None),
        ("Purchase", bought, failure("SOLD_OUT")),
    ):
        seen.note(Call(method=method, request=request, start_s=0.0, failure=why))
    assert (seen.calls, seen.challenges) == (4, 1)
    assert seen.failures == {"CHALLENGE_REQUIRED": 1, "RATE_LIMITED": 1}
    assert seen.hashes == hashes_of(text) == 1_000


def test_a_description_says_how_late_callers_were() -> None:
    """One of a hundred may be later."""
    visits = [replace(visit(f"p{number}"), late_s=number / 1000) for number in range(101)]
    visits[0].challenges = visits[1].challenges = 1
    visits[1].end("RESERVED", answered=True)
    assert late_s(visits) == 0.099
    told = describe(visits)
    assert (told["callers"], told["late_ms_p99"]) == (101, 99.0)
    assert told["endings"] == {"SOLD_OUT": 100, "RESERVED": 1}
    assert (told["challenges"], told["challenged_who_bought"]) == (2, 1)


def test_the_table_has_a_line_for_each_gate_of_each_attacker() -> None:
    """What was not got has no cost, and what the machine decided is marked."""
    free = {"cpu_s": None, "addresses": None, "accounts": None}
    found = {
        "bot_share": 0.125,
        "people_challenged": 0.05,
        "people_refused": 0.001,
        "attacker_cost": free,
    }
    gated = {**found, "attacker_cost": {"cpu_s": 1.25, "addresses": 2.0, "accounts": 4.0}}
    document: dict[str, Any] = {
        kind.value: {"gate_off": found, "gate_on": gated} for kind in ATTACKERS
    }
    document["sales"] = {
        kind.value: {"gate_off": {"unfit": ""}, "gate_on": {"unfit": "busy"}} for kind in ATTACKERS
    }
    told = list(lines(document))
    assert len(told) == 2 + 2 * len(ATTACKERS)
    assert told[2] == "| naive | off | 12.5 % | 5.0 % | 0.10 % | none got | none got | none got |"
    assert told[3] == "| naive | on (unfit) | 12.5 % | 5.0 % | 0.10 % | 1.25 | 2 | 4 |"
