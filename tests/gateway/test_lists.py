"""Limits and lists that operators change, in force on calls: one body for both fronts."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from gateway.admission import Moment
from gateway.rules import RulesHeard
from seckill.status import reason_of
from seckill.v1 import gate_pb2 as pb
from seckill.v1 import gateway_pb2
from tests.gateway.test_entries import AGENT, NETWORK, USER, entry
from tests.gateway.test_gate import ABOUT_ORDERS, SHOPPING, Ask, callback, listing, outcome, sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, details, failure, open_rig
from tests.kits.http import Version, call
from tests.kits.waiting import Signal, eventually

EVERY: tuple[Ask, ...] = (*SHOPPING, *ABOUT_ORDERS, callback)
PROXY = "127.0.0.0/8"


@pytest.fixture
async def proxied(front: str, tmp_path: Path) -> AsyncIterator[GatewayRig]:
    """A gateway that believes this machine about the caller's address."""
    async with AsyncExitStack() as stack:
        yield await open_rig(
            stack,
            tmp_path,
            front,
            gateway_trusted_proxies=PROXY,
            gateway_rate_ip=0.01,
            gateway_burst_ip=1,
        )


def came_from(address: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a proxy that forwards for an address."""
    return (("x-forwarded-for", address),)


@pytest.mark.parametrize("ask", EVERY)
async def test_a_denied_network_reaches_nothing(proxied: GatewayRig, ask: Ask) -> None:
    """Every method is PERMISSION_DENIED, with a reason of its own, before any bucket is charged."""
    proxied.services.rules.entries = [
        entry(NETWORK, "192.0.2.0/24"),
        entry(NETWORK, "192.0.2.128/25", denies=False),
        entry(NETWORK, "2001:db8::/32"),
    ]
    await proxied.rule()
    before = REGISTRY.get_sample_value("seckill_gate_denied_total", {"kind": "network"}) or 0
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1::1"):
        refused = await failure(ask(proxied, came_from(address)))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(refused) == "DENIED"
        assert set(details(refused)) == {"ErrorInfo"}
    after = REGISTRY.get_sample_value("seckill_gate_denied_total", {"kind": "network"})
    assert after == before + 3
    inventory, orders = proxied.services.inventory, proxied.services.orders
    assert inventory.batches == []
    assert inventory.asked == []
    assert orders.batches == []
    assert await outcome(ask(proxied, came_from("192.0.2.129"))) != "DENIED"


async def test_an_allowed_network_skips_its_own_bucket_alone(proxied: GatewayRig) -> None:
    """Others are charged, and it is charged again once the entry is gone."""
    rules = proxied.services.rules
    rules.entries = [entry(NETWORK, "192.0.2.0/24", denies=False)]
    await proxied.rule()
    for _ in range(3):
        assert await outcome(listing(proxied, came_from("192.0.2.1"))) == ""
    reasons = [await outcome(listing(proxied, came_from("198.51.100.1"))) for _ in range(2)]
    assert reasons == ["", "RATE_LIMITED"]
    rules.entries = []
    await proxied.rule()
    reasons = [await outcome(listing(proxied, came_from("192.0.2.1"))) for _ in range(2)]
    assert reasons == ["", "RATE_LIMITED"]


async def test_an_allowed_user_is_still_charged_to_the_bucket_of_all(
    front: str, tmp_path: Path
) -> None:
    """They skip their own bucket; who they are must still be proven."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_rate_user=0.01, gateway_burst_user=1)
        sku = rig.services.inventory.put(sale_terms())
        rig.services.rules.entries = [entry(USER, "vip", denies=False)]
        await rig.rule()
        for _ in range(3):
            await rig.token(sku, "vip")
        await rig.token(sku, "other")
        assert reason_of(await failure(rig.token(sku, "other"))) == "RATE_LIMITED"
        rig.services.rules.limits = {"rate_all": 0.01, "burst_all": 1}
        await rig.rule()
        await rig.token(sku, "vip")
        refused = await failure(rig.token(sku, "vip"))
        assert details(refused)["QuotaFailure"].violations[0].subject == "all"


async def test_a_denied_user_cannot_buy_and_their_token_is_no_use(rig: GatewayRig) -> None:
    """Neither a purchase token nor a purchase; another user buys."""
    sku = rig.services.inventory.put(sale_terms())
    token = await rig.token(sku, "mallory")
    rig.services.rules.entries = [entry(USER, "mallory")]
    await rig.rule()
    assert reason_of(await failure(rig.token(sku, "mallory"))) == "DENIED"
    assert reason_of(await failure(rig.buy(sku, "mallory", token=token))) == "DENIED"
    assert rig.services.inventory.batches == []
    await rig.buy(sku, "alice")


async def test_a_denied_user_agent_reaches_nothing(front: str, tmp_path: Path) -> None:
    """Of gRPC, for a batched method and for another one."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(
                f"127.0.0.1:{rig.gateway.port}",
                options=[
                    ("grpc.primary_user_agent", "Scalper/2.0"),
                    ("grpc.use_local_subchannel_pool", 1),
                ],
            )
        )
        service = "/seckill.v1.GatewayService/"
        ask: Any
        rig.services.rules.entries = [entry(AGENT, "scalper/")]
        await rig.rule()
        for method in ("GetSale", "ListSales"):
            ask = channel.unary_unary(service + method)
            forged = (("seckill-user-agent", "Mozilla/5.0"),)
            refused = await failure(ask(b"", metadata=forged, timeout=CALL_S))
            # An empty sku is looked at first.
            assert reason_of(refused) == ("DENIED" if method == "ListSales" else "INVALID_FIELD")
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=new_id("none"))
        ask = channel.unary_unary(service + "GetSale")
        refused = await failure(ask(request.SerializeToString(), timeout=CALL_S))
        assert reason_of(refused) == "DENIED"
        assert await outcome(sale(rig, ())) == "SALE_NOT_FOUND"


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
async def test_a_denied_user_agent_reaches_nothing_in_json(
    tmp_path: Path, version: Version
) -> None:
    """Of a batched method and of another one; what only the front may write is of no use."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, "http2")
        rig.services.rules.entries = [entry(AGENT, "scalper/")]
        await rig.rule()
        bad = {"user-agent": "Scalper/2.0", "seckill-user-agent": "Mozilla/5.0"}
        good = {"user-agent": "Mozilla/5.0", "seckill-user-agent": "Scalper/2.0"}
        for path, status in (("/v1/sales", 200), ("/v1/sales/none", 404)):
            for headers, expected in ((bad, 403), (good, status)):
                answer = await call(rig.gateway.port, "GET", path, headers=headers, version=version)
                assert answer.status == expected


async def test_the_user_agent_is_read_only_for_entries_about_it(rig: GatewayRig) -> None:
    """The hot path reads no header for a list that is empty; nor while only users are listed."""
    asked: list[str] = []

    class Watched:
        peer = "ipv4:192.0.2.1:1"

        def metadata(self, key: str) -> str | None:
            asked.append(key)
            return None

    admission = rig.gateway.admission
    admission.charge_client(Watched(), Moment.read())
    rig.services.rules.entries = [entry(USER, "mallory")]
    await rig.rule()
    admission.charge_client(Watched(), Moment.read())
    assert asked == []
    rig.services.rules.entries = [entry(AGENT, "scalper")]
    await rig.rule()
    admission.charge_client(Watched(), Moment.read())
    assert asked == ["user-agent"]


async def test_a_limit_is_in_force_and_gone_again(rig: GatewayRig) -> None:
    """A rule takes the setting's place, what was spent stays spent; reset, the setting holds."""
    sku = rig.services.inventory.put(sale_terms())
    await rig.token(sku, "alice")
    rules = rig.services.rules
    rules.limits = {"rate_user": 0.01, "burst_user": 2}
    await rig.rule()
    await rig.token(sku, "alice")
    refused = await failure(rig.token(sku, "alice"))
    assert details(refused)["QuotaFailure"].violations[0].subject == "user"
    rules.limits = {}
    await rig.rule()
    await rig.token(sku, "alice")


async def test_an_entry_ends_at_its_time_by_itself(rig: GatewayRig) -> None:
    """The gateway takes it out of force by itself, and the next one stays."""
    feed = rig.gateway.rules
    soon = entry(USER, "mallory")
    soon.expire_time.FromNanoseconds(int((time.time() + 1.0) * 1e9))
    later = entry(USER, "oscar")
    rig.services.rules.entries = [soon, later]
    await rig.rule()
    assert set(feed.rules.entries.users) == {"mallory", "oscar"}
    changed = Signal()
    feed.on_change(lambda _: changed.notify())
    await changed.until(lambda: set(feed.rules.entries.users) == {"oscar"}, timeout_s=5)
    assert time.time() >= soon.expire_time.ToNanoseconds() / 1e9


async def test_rules_stay_in_force_without_the_order_service(rig: GatewayRig) -> None:
    """Through an outage; a restarted one is heard again."""
    rig.services.rules.entries = [entry(USER, "mallory")]
    rig.services.rules.limits = {"rate_user": 7}
    await rig.rule()
    sku = rig.services.inventory.put(sale_terms())
    await rig.token(sku, "alice")
    feed = rig.gateway.rules
    assert feed.age_s() == 0
    await rig.services.stop()

    async def age_s() -> float:
        return feed.age_s()

    await eventually(age_s)
    assert feed.rules.limits == {"rate_user": 7}
    assert reason_of(await failure(rig.token(sku, "mallory"))) == "DENIED"


def test_rules_are_put_together_from_parts() -> None:
    """Parts of one revision are in force together; a stream that breaks between leaves nothing."""
    heard = RulesHeard()
    first, second = entry(USER, "a"), entry(USER, "b")
    first.id, second.id = 1, 2
    part = pb.WatchGateRulesResponse(revision=4, snapshot=True, more=True, entries=[first])
    rest = pb.WatchGateRulesResponse(
        revision=4, entries=[second], limits=[pb.GateLimit(name="rate_ip", value=3)]
    )
    assert not heard.take(part)
    assert heard.build(0).entries.users == {}
    heard.broken()
    assert heard.take(rest)
    assert set(heard.build(0).entries.users) == {"b"}
    assert not heard.take(part)
    assert heard.take(rest)
    rules = heard.build(0)
    assert (rules.revision, set(rules.entries.users), rules.limits) == (
        4,
        {"a", "b"},
        {"rate_ip": 3},
    )
    policy = pb.SalePolicy(sku="s", refuse_at=9)
    heard.take(pb.WatchGateRulesResponse(revision=5, removed_entry_ids=[1], policies=[policy]))
    rules = heard.build(0)
    assert (set(rules.entries.users), rules.policy("s").refuse_at, rules.limits) == ({"b"}, 9, {})
    heard.take(pb.WatchGateRulesResponse(revision=6, policies=[pb.SalePolicy(sku="s")]))
    assert heard.build(0).policies == {}


def test_what_cannot_be_read_leaves_the_other_rules_in_force() -> None:
    """An entry or a limit that was written past the service's checks, or by another release."""
    heard = RulesHeard()
    entries = [entry(NETWORK, "nonsense"), entry(USER, "mallory"), entry(NETWORK, "192.0.2.0/24")]
    for number, each in enumerate(entries):
        each.id = number
    limits = [("rate_user", math.nan), ("burst_user", 0), ("rate_of_tomorrow", 1), ("rate_ip", 3)]
    heard.take(
        pb.WatchGateRulesResponse(
            revision=1,
            snapshot=True,
            entries=entries,
            limits=[pb.GateLimit(name=name, value=value) for name, value in limits],
        )
    )
    rules = heard.build(0)
    assert rules.entries.users == {"mallory": False}
    assert rules.entries.has_networks
    assert rules.limits == {"rate_ip": 3}
