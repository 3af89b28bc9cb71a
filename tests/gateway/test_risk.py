"""The risk of a caller: signals, score and tier are plain functions of what is known."""

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.risk.claims import ClaimReader, parse_eligibility
from gateway.risk.crowds import USERS_MAX, Crowds
from gateway.risk.facts import UNKNOWN_STANDING, Facts, Standing
from gateway.risk.judgement import NOTHING, REQUIRED_CLAIM, Judge, Tier
from gateway.risk.signals import DEFAULT_WEIGHTS, SIGNALS, Scale, parse_weights

DAY_S = 86_400.0
NOW_S = 1_800_000_000.0
SCALE = Scale(claims=2)
JUDGE = Judge(parse_weights(DEFAULT_WEIGHTS), SCALE)


class Policy(NamedTuple):
    """What a sale asks for."""

    challenge_at: int = 30
    refuse_at: int = 70
    require_clean_history: bool = False


amounts = st.floats(0, 1e6)
any_facts = st.builds(
    Facts,
    address_users=amounts,
    fingerprint_users=amounts,
    account_age_s=st.none() | st.floats(0, 1e10),
    lacking=st.integers(0, 2),
    unpaid=st.integers(0, 10**6),
    paid=st.integers(0, 10**6),
)


@given(facts=any_facts)
def test_each_signal_is_a_share_and_the_score_is_at_most_a_hundred(facts: Facts) -> None:
    """Whatever is known."""
    judgement = JUDGE.judge(facts, Policy())
    assert all(0 <= value <= 1 for value in judgement.values)
    assert 0 <= judgement.score <= 100


@given(facts=any_facts, data=st.data())
def test_nothing_that_speaks_against_a_caller_lowers_the_score(
    facts: Facts, data: st.DataObject
) -> None:
    """More users, more unpaid orders, fewer claims, fewer paid orders, a younger account."""
    worse = facts._replace(
        address_users=data.draw(st.floats(facts.address_users, 2e6)),
        fingerprint_users=data.draw(st.floats(facts.fingerprint_users, 2e6)),
        lacking=data.draw(st.integers(facts.lacking, 3)),
        unpaid=data.draw(st.integers(facts.unpaid, 2 * 10**6)),
        paid=data.draw(st.integers(0, facts.paid)),
        account_age_s=(
            None if facts.account_age_s is None else data.draw(st.floats(0, facts.account_age_s))
        ),
    )
    before, after = JUDGE.judge(facts, Policy()), JUDGE.judge(worse, Policy())
    assert after.score >= before.score - 1e-9
    tiers = list(Tier)
    assert tiers.index(after.tier) >= tiers.index(before.tier) or after.score < before.score + 1e-9


@pytest.mark.parametrize(
    ("facts", "tier", "leading"),
    [
        (Facts(), Tier.PASS, NOTHING),
        (Facts(address_users=27.5), Tier.PASS, "address"),
        (Facts(address_users=50), Tier.CHALLENGE, "address"),
        (Facts(address_users=50, account_age_s=0), Tier.CHALLENGE, "address"),
        (Facts(account_age_s=0, lacking=2, unpaid=9), Tier.REFUSE, "history"),
        (Facts(fingerprint_users=6, lacking=2), Tier.REFUSE, "fingerprint"),
        (Facts(unpaid=3, paid=30), Tier.PASS, "history"),
        (Facts(lacks_required=True), Tier.REFUSE, REQUIRED_CLAIM),
    ],
)
def test_the_tier_follows_from_the_score(facts: Facts, tier: Tier, leading: str) -> None:
    """At the default weights, with thresholds of 30 and 70."""
    judgement = JUDGE.judge(facts, Policy())
    assert (judgement.tier, judgement.leading) == (tier, leading)


def test_no_single_signal_refuses_anybody_by_default() -> None:
    """Each at its highest stays below 70: thousands share an address, a family shares a card."""
    alone = [
        Facts(address_users=1e6),
        Facts(fingerprint_users=1e6),
        Facts(account_age_s=0),
        Facts(lacking=2),
        Facts(unpaid=1000),
    ]
    assert len(alone) == len(SIGNALS)
    for facts in alone:
        judgement = JUDGE.judge(facts, Policy())
        assert max(judgement.values) == 1
        assert judgement.tier is not Tier.REFUSE


def test_a_threshold_of_zero_is_never_reached() -> None:
    """A sale without thresholds lets everybody pass, even with a score of a hundred."""
    worst = Facts(lacks_required=True)
    assert JUDGE.judge(worst, Policy(challenge_at=0, refuse_at=0)).tier is Tier.PASS
    assert JUDGE.judge(worst, Policy(refuse_at=0)).tier is Tier.CHALLENGE


def test_a_sale_may_ask_for_a_clean_history() -> None:
    """One unpaid order refuses, whatever was paid, and whatever the thresholds are."""
    clean = Policy(challenge_at=0, refuse_at=0, require_clean_history=True)
    assert JUDGE.judge(Facts(paid=9), clean).tier is Tier.PASS
    judgement = JUDGE.judge(Facts(unpaid=1, paid=99), clean)
    assert (judgement.tier, judgement.leading) == (Tier.REFUSE, "history")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("adress=30", "'adress' is no signal"),
        ("address=many", "weight of 'address' is no number"),
        ("address=nan", "'address' must be 0 to 100"),
        ("address=101", "'address' must be 0 to 100"),
        ("address=1,address=2", "'address' stands twice"),
    ],
)
def test_bad_weights_are_named(text: str, problem: str) -> None:
    """The signal, and what is wrong with it."""
    with pytest.raises(ValueError, match=problem):
        parse_weights(text)


def test_a_signal_without_a_weight_adds_nothing() -> None:
    """And spaces do not matter."""
    weights = parse_weights(" address = 10 ,")
    assert weights == {name: 10.0 if name == "address" else 0.0 for name in SIGNALS}


@given(users=st.integers(1, 60))
def test_users_of_a_key_are_counted_within_a_third(users: int) -> None:
    """An estimate from 64 bits; the same users again add nothing."""
    crowds = Crowds(window_s=600, keys_max=100)
    for _ in range(2):
        for number in range(users):
            estimate = crowds.add("2001:db8::/64", f"{users}-{number}", now_s=1.0)
    assert 0.6 * users - 1 <= estimate <= 1.6 * users + 1
    assert crowds.count("2001:db8::/64", now_s=2.0) == estimate
    assert crowds.count("2001:db8:0:1::/64", now_s=2.0) == 0


def test_a_crowd_is_forgotten_by_halves_of_the_window() -> None:
    """Counted until the half after theirs has passed."""
    crowds = Crowds(window_s=600, keys_max=100)
    for number in range(30):
        crowds.add("192.0.2.1", str(number), now_s=299)
    seen = crowds.count("192.0.2.1", now_s=300)
    assert seen > 20
    assert crowds.add("192.0.2.1", "0", now_s=599) == seen
    assert crowds.count("192.0.2.1", now_s=600) == crowds.count("192.0.2.1", now_s=899)
    assert 0.9 < crowds.count("192.0.2.1", now_s=600) < 1.1
    assert crowds.count("192.0.2.1", now_s=1200) == 0


def test_a_crowd_beyond_counting_is_many() -> None:
    """All bits are set: as many as a setting may ask for."""
    crowds = Crowds(window_s=600, keys_max=100)
    most = max(crowds.add("192.0.2.1", str(number), now_s=1.0) for number in range(5_000))
    assert USERS_MAX <= most < USERS_MAX + 1


def test_the_table_of_crowds_is_bounded() -> None:
    """The keys used longest ago go first."""
    crowds = Crowds(window_s=600, keys_max=1_000)
    for number in range(10_000):
        crowds.add(f"2001:db8:{number:x}::/64", "u", now_s=1.0)
    assert len(crowds) <= 1_000
    assert crowds.count("2001:db8:270f::/64", now_s=1.0) > 0
    assert crowds.count("2001:db8:0::/64", now_s=1.0) == 0


READER = ClaimReader(
    account_from="opened",
    fingerprint="card",
    eligibility=parse_eligibility("phone_verified, plan=gold"),
    required=parse_eligibility("adult"),
)


def test_claims_are_read_as_settings_name_them() -> None:
    """Age, fingerprint, eligibility (true, a text, a text in a list), and what must be held."""
    claims = {"opened": NOW_S - DAY_S, "card": "f-1", "phone_verified": True, "adult": True}
    gold = READER.read(claims | {"plan": ["silver", "gold"]}, now_s=NOW_S)
    assert gold[:3] == (NOW_S - DAY_S, 0, False)
    assert gold.fingerprint == READER.read({"card": "f-1"}, now_s=NOW_S).fingerprint
    assert gold.fingerprint != READER.read({"card": "f-2"}, now_s=NOW_S).fingerprint
    assert READER.read(claims | {"plan": "gold"}, now_s=NOW_S).lacking == 0
    silver = READER.read(claims | {"plan": "silver", "adult": "true"}, now_s=NOW_S)
    assert (silver.lacking, silver.lacks_required) == (1, True)


def test_without_settings_no_claim_is_read() -> None:
    """And an identity in memory is no larger."""
    standing = ClaimReader().read({"opened": 1, "card": "f"}, now_s=NOW_S)
    assert standing is UNKNOWN_STANDING
    assert standing.packed() == b""


standings = st.builds(
    Standing,
    account_from_s=st.none() | st.floats(0, 1e12),
    lacking=st.integers(0, 255),
    lacks_required=st.booleans(),
    fingerprint=st.none() | st.binary(min_size=16, max_size=16),
)


@given(standing=standings)
def test_a_standing_is_kept_in_few_bytes(standing: Standing) -> None:
    """As many as 27, and it comes back as it was."""
    assert Standing.unpack(standing.packed()) == standing
    assert len(standing.packed()) <= 27


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([10**400, -(10**400), NOW_S * 2, "\ud800", "gold", "true"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@given(
    claims=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["opened", "card", "phone_verified", "plan", "adult"], any_json)
    )
)
def test_claims_of_any_shape_count_as_not_there(claims: dict[str, Any]) -> None:
    """They never raise, and an age that cannot be read is that of an account opened now."""
    standing = READER.read(claims, now_s=NOW_S)
    assert standing.account_from_s is not None
    assert 0 < standing.account_from_s <= NOW_S + 300
    facts = Facts(account_age_s=NOW_S - standing.account_from_s, lacking=standing.lacking)
    assert 0 <= JUDGE.judge(facts, Policy()).score <= 100


@pytest.mark.parametrize("text", ["=gold", "plan=", "phone,=x"])
def test_a_bad_eligibility_claim_is_named(text: str) -> None:
    """By the part that is wrong; and there are not too many."""
    with pytest.raises(ValueError, match="must be claim or claim=value"):
        parse_eligibility(text)
    with pytest.raises(ValueError, match="more than 32 claims"):
        parse_eligibility(",".join(map(str, range(33))))
