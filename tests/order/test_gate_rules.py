"""The rules of the gate: who may change them, what they take, and how gateways are told."""

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from order_svc.gate.feed import MESSAGE_ITEMS_MAX
from seckill.runtime.gate_limits import LIMITS
from seckill.status import reason_of
from seckill.v1 import gate_pb2 as pb
from tests.kits.faults.proxy import FaultProxy
from tests.kits.gate_rules import RulesDesk, open_rules_desk
from tests.kits.gateway import details, failure
from tests.kits.operator import authorization
from tests.kits.order_store import Store
from tests.kits.waiting import eventually

USER, NETWORK, AGENT = (
    pb.GATE_ENTRY_KIND_USER,
    pb.GATE_ENTRY_KIND_NETWORK,
    pb.GATE_ENTRY_KIND_USER_AGENT,
)
DENY, ALLOW = pb.GATE_LIST_DENY, pb.GATE_LIST_ALLOW
SERVICE = pb.DESCRIPTOR.services_by_name["GateRulesService"]
METHODS = [method.name for method in SERVICE.methods if method.name != "WatchGateRules"]
NO_LIMIT = [pb.GateLimit(name=name, value=1) for name in ("rate_user", "no_such")]


@pytest.fixture
async def desk(database_dsn: str, tmp_path: Path) -> AsyncIterator[RulesDesk]:
    """The service, with room for four entries, one of them about user agents."""
    async with open_rules_desk(
        database_dsn, tmp_path, entries_max=4, user_agents_max=1, policies_max=2
    ) as opened:
        yield opened


async def add(desk: RulesDesk, value: str, **changes: Any) -> pb.AddListEntryResponse:
    """Put a user on the list of those denied, but for the changes."""
    request = pb.AddListEntryRequest(list=DENY, kind=USER, value=value, reason="bots")
    request.MergeFrom(pb.AddListEntryRequest(**changes))
    return await desk.stub.AddListEntry(request, metadata=desk.metadata)


def in_future(seconds: float) -> Timestamp:
    """A moment so far from now."""
    stamp = Timestamp()
    stamp.FromNanoseconds(int((time.time() + seconds) * 1e9))
    return stamp


async def watching(desk: RulesDesk, revision: int) -> tuple[Any, list[pb.WatchGateRulesResponse]]:
    """Open a watch; return it with the messages of its snapshot, once that is of this revision."""

    async def opened() -> tuple[Any, list[pb.WatchGateRulesResponse]]:
        watch: Any = desk.stub.WatchGateRules(pb.WatchGateRulesRequest())
        parts = [await watch.read()]
        while parts[-1].more:
            parts.append(await watch.read())
        if parts[-1].revision != revision:
            watch.cancel()
        return watch, parts

    return await eventually(opened, lambda found: found[1][-1].revision == revision)


async def test_every_method_but_the_watch_is_for_operators_only(desk: RulesDesk) -> None:
    """Without a token UNAUTHENTICATED, without the role PERMISSION_DENIED."""
    buyer = authorization(desk.issuer.token("buyer-1"))
    for method in METHODS:
        call, request = getattr(desk.stub, method), getattr(pb, f"{method}Request")()
        assert reason_of(await failure(call(request))) == "IDENTITY_MISSING", method
        assert reason_of(await failure(call(request, metadata=buyer))) == "NOT_ALLOWED", method


BAD: dict[str, tuple[str, Any, list[str]]] = {
    "unknown limit": ("SetLimits", pb.SetLimitsRequest(limits=NO_LIMIT), ["limits[1].name"]),
    "endless name": (
        "SetLimits",
        pb.SetLimitsRequest(limits=[pb.GateLimit(name="ü" * 50_000, value=1)]),
        ["limits[0].name"],
    ),
    "no limits": ("SetLimits", pb.SetLimitsRequest(), ["limits"]),
    "a limit twice": (
        "SetLimits",
        pb.SetLimitsRequest(limits=[NO_LIMIT[0], NO_LIMIT[0]]),
        ["limits[1].name"],
    ),
    "reset of none": (
        "ResetLimits",
        pb.ResetLimitsRequest(names=["rate_user", "rate_user", "x"]),
        ["names[2]"],
    ),
    "empty entry": ("AddListEntry", pb.AddListEntryRequest(), ["list", "kind", "reason"]),
    "user with a space": (
        "AddListEntry",
        pb.AddListEntryRequest(list=DENY, kind=USER, value="a b", reason="r"),
        ["value"],
    ),
    "reason of control characters": (
        "AddListEntry",
        pb.AddListEntryRequest(list=DENY, kind=USER, value="a", reason="\x1b[2J"),
        ["reason"],
    ),
    "expiry that is no time": (
        "AddListEntry",
        pb.AddListEntryRequest(
            list=DENY, kind=USER, value="a", reason="r", expire_time=Timestamp(seconds=-1)
        ),
        ["expire_time"],
    ),
    "expiry in the past": (
        "AddListEntry",
        pb.AddListEntryRequest(
            list=DENY, kind=USER, value="a", reason="r", expire_time=Timestamp(seconds=1)
        ),
        ["expire_time"],
    ),
    "entry of no kind": ("RemoveListEntry", pb.RemoveListEntryRequest(value="a"), ["kind"]),
    "list of no kind": (
        "ListEntries",
        pb.ListEntriesRequest(list=7, kind=9),  # type: ignore[arg-type]
        ["list", "kind"],
    ),
    "policy of no sale": ("SetSalePolicy", pb.SetSalePolicyRequest(), ["policy.sku"]),
    "scores beyond bounds": (
        "SetSalePolicy",
        pb.SetSalePolicyRequest(
            policy=pb.SalePolicy(sku="s", challenge_at=101, refuse_at=-1, admission_multiple=0.5)
        ),
        ["policy.challenge_at", "policy.refuse_at", "policy.admission_multiple"],
    ),
    "refused before challenged": (
        "SetSalePolicy",
        pb.SetSalePolicyRequest(policy=pb.SalePolicy(sku="s", challenge_at=50, refuse_at=40)),
        ["policy.refuse_at"],
    ),
    "multiple that is no number": (
        "SetSalePolicy",
        pb.SetSalePolicyRequest(policy=pb.SalePolicy(sku="s", admission_multiple=math.nan)),
        ["policy.admission_multiple"],
    ),
    **{
        f"network {text}": (
            "AddListEntry",
            pb.AddListEntryRequest(list=DENY, kind=NETWORK, value=text, reason="r"),
            ["value"],
        )
        for text in (
            *("", "nonsense", "192.0.2.1/24", "192.0.2.0/33", "0.0.0.0/0", "10.0.0.0/7"),
            *("::/0", "2001::/15", "fe80::1%eth0", "1", "::ffff:0.0.0.0/100", "9" * 5_000),
        )
    },
    **{
        f"user agent {text[:9]!r}": (
            "AddListEntry",
            pb.AddListEntryRequest(list=DENY, kind=AGENT, value=text, reason="r"),
            ["value"],
        )
        for text in ("", "bot", "   x   ", "x\ny" * 4, "ümläut", "x" * 129)
    },
}


@pytest.fixture(scope="module")
async def any_desk(
    template_database: str, stores: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RulesDesk]:
    """The service for calls that change nothing."""
    dsn = f"{stores.postgres_dsn.rpartition('/')[0]}/{template_database}_gate"
    admin = await asyncpg.connect(stores.postgres_dsn)
    await admin.execute(f"CREATE DATABASE {template_database}_gate TEMPLATE {template_database}")
    async with open_rules_desk(dsn, tmp_path_factory.mktemp("keys")) as opened:
        yield opened
    await admin.execute(f"DROP DATABASE {template_database}_gate WITH (FORCE)")
    await admin.close()


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_is_refused_naming_each_field(any_desk: RulesDesk, case: str) -> None:
    """And nothing is changed."""
    method, request, fields = BAD[case]
    refused = await failure(getattr(any_desk.stub, method)(request, metadata=any_desk.metadata))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    named = [violation.field for violation in details(refused)["BadRequest"].field_violations]
    assert [field for field in fields if field not in named] == []
    limits = await any_desk.stub.GetLimits(pb.GetLimitsRequest(), metadata=any_desk.metadata)
    assert limits.revision == 0


@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_takes_what_the_setting_takes(any_desk: RulesDesk, name: str) -> None:
    """Negative, endless, huge and broken numbers are refused; the message says what may be."""
    bad = [-1.0, math.nan, math.inf, -math.inf, 1e300, 10_000_001.0 * 1_000]
    bad += [1.5, 0.2] if LIMITS[name].whole else [1e-9]
    for value in bad:
        limit = pb.GateLimit(name=name, value=value)
        call = any_desk.stub.SetLimits(
            pb.SetLimitsRequest(limits=[limit]), metadata=any_desk.metadata
        )
        refused = await failure(call)
        (violation,) = details(refused)["BadRequest"].field_violations
        assert violation.field == "limits[0].value"
        assert f"{name} must be" in violation.description


async def test_limits_are_set_together_and_reset(desk: RulesDesk) -> None:
    """Each shows who set it and when; one wrong value leaves all as they were."""
    stub, metadata = desk.stub, desk.metadata
    limits = [pb.GateLimit(name="rate_user", value=0), pb.GateLimit(name="burst_user", value=7)]
    await stub.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=metadata)
    again = await stub.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=metadata)
    assert again.revision == 1, "nothing was changed"
    await failure(stub.SetLimits(pb.SetLimitsRequest(limits=NO_LIMIT), metadata=metadata))
    shown = await stub.GetLimits(pb.GetLimitsRequest(), metadata=metadata)
    assert [limit.name for limit in shown.limits] == list(LIMITS)
    is_set = {limit.name: limit.value for limit in shown.limits if limit.HasField("value")}
    assert is_set == {"rate_user": 0, "burst_user": 7}
    assert {limit.operator for limit in shown.limits} == {"", "olga"}
    reset = await stub.ResetLimits(pb.ResetLimitsRequest(names=["rate_user"]), metadata=metadata)
    assert (list(reset.names), reset.revision) == (["rate_user"], 2)
    rest = await stub.ResetLimits(pb.ResetLimitsRequest(), metadata=metadata)
    assert (list(rest.names), rest.revision) == (["burst_user"], 3)


async def test_entries_are_kept_in_one_form(desk: RulesDesk) -> None:
    """Mapped IPv4 networks as IPv4, user agents in lower case; a value is there once."""
    first = await add(desk, "::ffff:192.0.2.0/120", kind=NETWORK)
    assert first.entry.value == "192.0.2.0/24"
    second = await add(desk, "192.0.2.0/24", kind=NETWORK, list=ALLOW, reason="a shop")
    await add(desk, "2001:DB8::/32", kind=NETWORK)
    await add(desk, "Scalper/", kind=AGENT)
    request = pb.ListEntriesRequest(page_size=2)
    page = await desk.stub.ListEntries(request, metadata=desk.metadata)
    request.page_token = page.next_page_token
    rest = await desk.stub.ListEntries(request, metadata=desk.metadata)
    assert [(entry.list, entry.value) for entry in (*page.entries, *rest.entries)] == [
        (ALLOW, "192.0.2.0/24"),
        (DENY, "2001:db8::/32"),
        (DENY, "scalper/"),
    ]
    assert rest.next_page_token == ""
    assert (page.entries[0].id, page.entries[0].operator) == (second.entry.id, "olga")
    removal = pb.RemoveListEntryRequest(kind=AGENT, value="SCALPER/")
    await desk.stub.RemoveListEntry(removal, metadata=desk.metadata)
    refused = await failure(desk.stub.RemoveListEntry(removal, metadata=desk.metadata))
    assert reason_of(refused) == "GATE_ENTRY_NOT_FOUND"


async def test_lists_have_a_bound(desk: RulesDesk, store: Store) -> None:
    """What is full takes no more, though it replaces; what has expired makes room."""
    await add(desk, "scalper", kind=AGENT)
    refused = await failure(add(desk, "another", kind=AGENT))
    assert (refused.code(), reason_of(refused)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "GATE_FULL",
    )
    await add(desk, "brief", expire_time=in_future(60))
    for user in ("a", "b"):
        await add(desk, user)
    assert reason_of(await failure(add(desk, "c"))) == "GATE_FULL"
    await add(desk, "a", list=ALLOW)
    await store.sql.execute(
        "UPDATE gate_entries SET expires_at = now() - interval '1 s' WHERE value = 'brief'"
    )
    listed = await desk.stub.ListEntries(pb.ListEntriesRequest(), metadata=desk.metadata)
    assert {entry.value for entry in listed.entries} == {"scalper", "a", "b"}
    await add(desk, "c")


async def test_policies_of_sales_are_set_and_cleared(desk: RulesDesk, store: Store) -> None:
    """Of sales that exist, no more than may be; one that asks for nothing is forgotten."""
    stub, metadata = desk.stub, desk.metadata
    skus = sorted([await store.sale() for _ in range(3)])

    async def put(sku: str, **facts: Any) -> pb.SetSalePolicyResponse:
        request = pb.SetSalePolicyRequest(policy=pb.SalePolicy(sku=sku, **facts))
        return await stub.SetSalePolicy(request, metadata=metadata)

    assert reason_of(await failure(put("no-such", refuse_at=9))) == "SALE_NOT_FOUND"
    for sku in skus[:2]:
        await put(sku, challenge_at=30, refuse_at=80, admission_multiple=2.5)
    assert reason_of(await failure(put(skus[2], refuse_at=9))) == "GATE_FULL"
    await put(skus[0], require_clean_history=True)
    request = pb.ListSalePoliciesRequest(page_size=1)
    page = await stub.ListSalePolicies(request, metadata=metadata)
    assert list(page.policies) == [pb.SalePolicy(sku=skus[0], require_clean_history=True)]
    request.page_token = page.next_page_token
    page = await stub.ListSalePolicies(request, metadata=metadata)
    assert [policy.sku for policy in page.policies] == [skus[1]]
    await put(skus[1])
    shown = await stub.GetSalePolicy(pb.GetSalePolicyRequest(sku=skus[1]), metadata=metadata)
    assert shown.policy == pb.SalePolicy(sku=skus[1])
    await put(skus[2], refuse_at=9)


async def test_the_record_of_changes_stands(desk: RulesDesk, store: Store) -> None:
    """A line for each change, latest first, in pages; the database refuses to change one."""
    await add(desk, "mallory", expire_time=in_future(60))
    await desk.stub.RemoveListEntry(
        pb.RemoveListEntryRequest(kind=USER, value="mallory"), metadata=desk.metadata
    )
    request = pb.ListGateChangesRequest(page_size=1)
    page = await desk.stub.ListGateChanges(request, metadata=desk.metadata)
    (change,) = page.changes
    assert (change.kind, change.after) == (pb.GATE_CHANGE_KIND_ENTRY_REMOVED, "null")
    assert '"reason": "bots"' in change.before
    request.page_token = page.next_page_token
    page = await desk.stub.ListGateChanges(request, metadata=desk.metadata)
    assert [change.kind for change in page.changes] == [pb.GATE_CHANGE_KIND_ENTRY_ADDED]
    assert page.next_page_token == ""
    with pytest.raises(asyncpg.RestrictViolationError):
        await store.sql.execute("UPDATE gate_changes SET operator = 'nobody'")


async def test_watchers_get_everything_and_then_what_changes(
    desk: RulesDesk, database_dsn: str, tmp_path: Path
) -> None:
    """Through whichever replica it was changed; who added an entry and why stays here."""
    await add(desk, "mallory", expire_time=in_future(60))
    watch, (first,) = await watching(desk, 1)
    assert (first.revision, first.snapshot, first.more) == (1, True, False)
    (entry,) = first.entries
    assert (entry.value, entry.reason, entry.operator) == ("mallory", "", "")
    assert entry.HasField("expire_time")
    async with open_rules_desk(database_dsn, tmp_path) as replica:
        began_s = time.monotonic()
        limits = [pb.GateLimit(name="rate_ip", value=3)]
        await replica.stub.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=replica.metadata)
        second = await watch.read()
        assert time.monotonic() - began_s < 1
        assert (second.revision, second.snapshot, list(second.limits)) == (2, False, limits)
        assert not second.entries
        await add(replica, "mallory", list=ALLOW)
    third = await watch.read()
    assert list(third.removed_entry_ids) == [entry.id]
    assert [(each.value, each.list) for each in third.entries] == [("mallory", ALLOW)]
    assert list(third.limits) == limits
    watch.cancel()


async def test_many_rules_come_in_parts(desk: RulesDesk, store: Store) -> None:
    """No message has more than a thousand entries; the last one says that it is the last."""
    await store.sql.execute(
        "INSERT INTO gate_entries (list, kind, value, reason, operator)"
        " SELECT 'deny', 'user', 'user-' || n, 'bots', 'olga' FROM generate_series(1, 2500) n"
    )
    limits = [pb.GateLimit(name="rate_ip", value=3)]
    await desk.stub.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=desk.metadata)
    watch, parts = await watching(desk, 1)
    assert [len(part.entries) for part in parts] == [MESSAGE_ITEMS_MAX, MESSAGE_ITEMS_MAX, 500]
    assert [part.snapshot for part in parts] == [True, False, False]
    assert [len(part.limits) for part in parts] == [0, 0, 1]
    watch.cancel()


async def test_a_replica_without_the_database_sends_its_watchers_away(
    database_dsn: str, tmp_path: Path
) -> None:
    """Another replica may know of changes that this one cannot."""
    host, _, port = database_dsn.rpartition("@")[2].partition("/")[0].partition(":")
    async with FaultProxy(host, int(port)).running() as proxy:
        dsn = database_dsn.replace(f"{host}:{port}", f"127.0.0.1:{proxy.port}")
        async with open_rules_desk(dsn, tmp_path, stale_s=0.3, timeout_s=1.0) as desk:
            watch, _ = await watching(desk, 0)
            proxy.drop()
            refused = await failure(watch.read())
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
            proxy.heal()
