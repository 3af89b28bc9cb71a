"""What the agent would have Envoy refuse, and how it tells who holds units."""

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.holders import HOLDERS_PER_PATTERN, PLAIN_ID, holders_patterns
from edge.lease import runtime_response
from edge.refusals import (
    HolderPatterns,
    Refusal,
    RefusalPlan,
    plan_refusals,
    route_configuration,
)
from edge.settings import EdgeSettings
from edge.web import list_files
from seckill.runtime.sale_view import SaleView
from seckill.v1 import inventory_pb2, sale_pb2

PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@:~-"
ids = st.text(PLAIN, min_size=1, max_size=128)
claims = st.dictionaries(st.text(max_size=12), st.text(max_size=20) | st.integers(), max_size=4)


def authorization(claims_before: dict[str, object], user: str, *, compact: bool) -> str:
    """What a caller with such a token sends."""
    separators = (",", ":") if compact else None
    payload = json.dumps({**claims_before, "sub": user}, separators=separators)
    encoded = base64.urlsafe_b64encode(payload.encode()).rstrip(b"=").decode()
    return f"Bearer eyJhbGciOiJFUzI1NiJ9.{encoded}.c2lnbmF0dXJl"


def told(patterns: tuple[str, ...], header: str) -> bool:
    """Whether a holder is seen in the header, as RE2 matches it: from its start to its end."""
    return any(re.fullmatch(pattern, header) for pattern in patterns)


@given(users=st.lists(ids, min_size=1, max_size=6), before=claims, compact=st.booleans())
def test_a_holder_is_told_by_every_form_of_his_token(
    users: list[str], before: dict[str, object], compact: bool
) -> None:
    """Wherever in the token their id is, and whatever precedes it."""
    before.pop("sub", None)
    patterns = holders_patterns(users)
    assert patterns is not None
    for user in users:
        assert told(patterns, authorization(before, user, compact=compact))


def test_others_are_not_taken_for_holders() -> None:
    """Neither one whose id has a holder's in it, nor one who sends nothing."""
    patterns = holders_patterns(["buyer-0000000017"])
    assert patterns is not None
    for user in ("buyer-0000000018", "buyer-00000000171", "another"):
        assert not told(patterns, authorization({}, user, compact=True))
    assert not told(patterns, "")


def test_an_id_that_may_be_written_in_two_ways_is_left_to_the_gateway() -> None:
    """JSON may escape its characters: a sale with such a holder is not refused by Envoy."""
    assert PLAIN_ID.fullmatch("o'neil") is None
    assert holders_patterns(["alice", "o'neil"]) is None


def test_many_holders_are_spread_over_patterns() -> None:
    """Each pattern stays small enough for one pass."""
    patterns = holders_patterns(f"buyer-{number}" for number in range(2 * HOLDERS_PER_PATTERN + 1))
    assert patterns is not None
    assert len(patterns) == 3


def view(
    *,
    sold_out: bool = True,
    state: int = sale_pb2.SALE_STATE_OPEN,
    holders: set[str] | None,
) -> SaleView:
    """A sale whose window is open from 0 to 1,000."""
    return SaleView(
        state=state, start_s=0, end_s=1_000, limit=1, sold_out=sold_out, loaded=True,
        holders=holders,
    )  # fmt: skip


def decided(views: dict[str, SaleView], *, now_s: float = 500.0, **settings: int) -> list[str]:
    """The skus refused."""
    found = plan_refusals(views, EdgeSettings(**settings), HolderPatterns(), now_s=now_s)  # type: ignore[arg-type]
    return [refusal.sku for refusal in found]


def test_only_sales_that_sell_nothing_and_whose_holders_are_known_are_refused() -> None:
    """One that sells is passed on, and one whose holders are not known."""
    views = {
        "gone": view(holders={"alice"}),
        "selling": view(sold_out=False, holders=None),
        "unknown": view(holders=None),
        "paused": view(sold_out=False, state=sale_pb2.SALE_STATE_PAUSED, holders=set()),
        "strange": view(holders={"o'neil"}),
    }
    assert decided(views) == ["gone", "paused"]


def test_a_window_opens_by_the_clock_alone() -> None:
    """The same view is a refusal before the start and none after it."""
    views = {"soon": view(sold_out=False, holders=set())}
    assert decided(views, now_s=-2.0) == ["soon"]
    assert decided(views, now_s=0.0) == []


def test_refusals_are_bounded_and_those_with_few_holders_come_first() -> None:
    """In number, in the holders of one, and in those of all."""
    views = {f"sku-{count}": view(holders=set(map(str, range(count)))) for count in (0, 1, 2, 3)}
    assert decided(views, edge_refusals_max=2) == ["sku-0", "sku-1"]
    assert decided(views, edge_holders_max=2) == ["sku-0", "sku-1", "sku-2"]
    assert decided(views, edge_holders_total_max=3) == ["sku-0", "sku-1", "sku-2"]


def test_each_refusal_is_tied_to_its_lease() -> None:
    """Every answer of an edge that refuses, but for the base's, depends on the runtime key."""
    settings = EdgeSettings(edge_shed="off")
    sales = plan_refusals({"gone": view(holders=set())}, settings, HolderPatterns(), now_s=500.0)
    for plan in (RefusalPlan(sales=sales), RefusalPlan(halted=True)):
        routes = json.dumps(route_configuration(settings, plan, "lease.life.7"))
        guarded = routes.count('"runtime_key": "lease.life.7"')
        plain = json.dumps(route_configuration(settings, RefusalPlan(), "lease.life.7"))
        added = routes.count('"direct_response"') - plain.count('"direct_response"')
        assert guarded == added > 0


def test_each_route_that_sheds_is_tied_to_what_the_agent_says() -> None:
    """All of them, whatever else is refused, by keys of the layer that expires; 12 or twice 12."""
    sales = (Refusal("gone", inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT),)
    for plan, count in ((RefusalPlan(), 12), (RefusalPlan(sales=sales), 24)):
        with_shed, without = (
            json.dumps(route_configuration(EdgeSettings(edge_shed=shed), plan, "lease.life.7"))
            for shed in ("on", "off")
        )
        added = with_shed.count('"direct_response"') - without.count('"direct_response"')
        assert added == with_shed.count('"runtime_key": "lease.shed_') == count


def test_files_are_listed_without_hidden_ones_and_within_bounds(tmp_path: Path) -> None:
    """A folder that is not there serves nothing; a huge file is refused by name."""
    assert list_files(str(tmp_path / "nowhere"), profile="production") == ()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    (tmp_path / "index.html").write_text("hello")
    assert [file.path for file in list_files(str(tmp_path), profile="production")] == ["index.html"]
    (tmp_path / "film.mp4").write_bytes(b"\0" * (1024 * 1024 + 1))
    with pytest.raises(ValueError, match=r"film\.mp4"):
        list_files(str(tmp_path), profile="production")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"edge_tls": "required"}, "edge_tls_certificate"),
        ({"edge_client_certificates": "optional"}, "edge_client_ca"),
        ({"edge_client_certificates": "required"}, "edge_client_certificates"),
        ({"edge_cors_origins": "https://shop.example/path"}, "edge_cors_origins"),
        ({"edge_attestation_origins": "https://widget.example/path"}, "edge_attestation_origins"),
        ({"edge_attestation_origins": "*"}, "edge_attestation_origins"),
        ({"gateway_target": "gateway"}, "gateway_target"),
        ({"gateway_front": "grpcio"}, "gateway_front"),
        ({"gateway_json": "off", "edge_json": "passed"}, "gateway_json"),
    ],
)
def test_a_bad_setting_is_named(given: dict[str, str], named: str) -> None:
    """What does not fit together is refused at start."""
    with pytest.raises(ValidationError) as refused:
        EdgeSettings(**given)  # type: ignore[arg-type]
    assert named in {str(error["loc"][0]) for error in refused.value.errors()}


def test_the_refusals_answers_are_purchase_outcomes_without_a_number() -> None:
    """What a page reads from Envoy is what the transcoder would have printed."""
    settings = EdgeSettings()
    sales = plan_refusals({"gone": view(holders=set())}, settings, HolderPatterns(), now_s=500.0)
    routes = json.dumps(route_configuration(settings, RefusalPlan(sales=sales), "lease.a.1"))
    name = inventory_pb2.PurchaseOutcome.Name(inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT)
    assert json.dumps(f'{{"outcome":"{name}","orderNo":""}}') in routes


def test_a_lease_says_how_long_it_holds() -> None:
    """The response on the wire has the key, and the time to live that Envoy counts."""
    response = runtime_response({"lease.life.7": 100}, version="3", ttl_s=1.5)
    encoded = response.SerializeToString()
    assert b"lease.life.7" in encoded
    # Field 6 of Resource, a Duration of one second and half a billion nanoseconds.
    assert b"\x32\x08\x08\x01\x10\x80\xca\xb5\xee\x01" in encoded
