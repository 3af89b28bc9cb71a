"""Rules of the gate: what an operator sets at the order service is in force on every gateway."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from devstack import Stores
from devstack.ports import LOOPBACK, pick_free_port
from gateway.rules_feed import RulesFeed
from seckill.status import reason_of
from seckill.v1 import gate_pb2 as pb
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.factories import sale_terms
from tests.kits.gate_rules import RulesDesk, open_rules_desk
from tests.kits.gateway import GatewayRig, details, failure, open_rig, rules_in_force
from tests.kits.operator import open_desk
from tests.kits.order_store import terms
from tests.kits.stores import Topics
from tests.kits.waiting import Signal, eventually

# A second is promised, of which the order service may wait a third before it looks; a machine that
# runs five test suites gets another one.
IN_FORCE_S = 2.0
# How long an entry is in force: longer than it takes to be in force.
ENTRY_S = 2.0


async def in_force(rigs: list[GatewayRig], revision: int) -> None:
    """Wait until this revision is in force on all of them, as soon as is promised."""
    await asyncio.gather(
        *(rules_in_force(rig.gateway.rules, revision, timeout_s=IN_FORCE_S) for rig in rigs)
    )


async def until_no_user_is_listed(feed: RulesFeed) -> None:
    """Wait until no user is on a list."""
    changed = Signal()
    feed.on_change(lambda _: changed.notify())
    await changed.until(lambda: not feed.rules.entries.users)


async def open_gateways(stack: AsyncExitStack, directory: Path, target: str) -> list[GatewayRig]:
    """Two gateways before this order service."""
    return [
        await open_rig(stack, directory, front, order_target=target)
        for front in ("http2", "grpcio")
    ]


async def test_what_the_operator_commands_is_in_force_on_both_gateways(
    stores: Stores, database_dsn: str, redis_url: str, topics: Topics, tmp_path: Path
) -> None:
    """Limits, entries and policies, by the command, at the whole order service; all on record."""
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(
            open_desk(
                stores,
                database_dsn=database_dsn,
                redis_url=redis_url,
                topics=topics,
                secrets=tmp_path,
            )
        )
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(desk.address))
        sale = order_pb2.RegisterSaleRequest(terms=terms("phone"))
        await order_pb2_grpc.OrderServiceStub(channel).RegisterSale(sale)
        rigs = await open_gateways(stack, tmp_path, f"dns:///{desk.address}")
        reason = ("--reason", "bots of Monday")
        await asyncio.gather(
            desk.command("limits", "set", "rate_user=3", "unpaid_orders_max=2"),
            desk.command("list", "add", "deny", "--user", "mallory", *reason),
            desk.command("policy", "set", "phone", "--challenge-at", "40", "--clean-history"),
        )
        await in_force(rigs, 3)
        for rig in rigs:
            rules = rig.gateway.rules.rules
            assert rules.limits == {"rate_user": 3.0, "unpaid_orders_max": 2.0}
            assert rules.unpaid_orders_max == 2
            assert rules.entries.users == {"mallory": False}
            assert rules.policy("phone").challenge_at == 40
            assert rules.policy("phone").require_clean_history
            assert rules.policy("another").challenge_at == 0
        shown = await asyncio.gather(
            desk.command("limits", "show"),
            desk.command("list", "show", "deny"),
            desk.command("policy", "show"),
            desk.command("gate-changes"),
        )
        for text, parts in zip(
            shown,
            (
                ("rate_user", "3 ", "olga", "(setting)"),
                ("mallory", "bots of Monday", "1 entries"),
                ("phone", "40", "asked for"),
                ("limits set", "entry added", "policy set", "olga", '"challenge_at": 40'),
            ),
            strict=True,
        ):
            assert [part for part in parts if part not in text] == [], text
        await asyncio.gather(
            desk.command("limits", "reset"), desk.command("list", "remove", "--user", "mallory")
        )
        await in_force(rigs, 5)
        for rig in rigs:
            rules = rig.gateway.rules.rules
            assert (rules.limits, rules.entries.users) == ({}, {})


@pytest.fixture
async def desk(database_dsn: str, tmp_path: Path) -> AsyncIterator[RulesDesk]:
    """The rules alone, on a real database."""
    async with open_rules_desk(database_dsn, tmp_path, interval_s=0.3) as opened:
        yield opened


@pytest.fixture
async def rigs(desk: RulesDesk, tmp_path: Path) -> AsyncIterator[list[GatewayRig]]:
    """Two gateways that follow these rules, with a sale each."""
    async with AsyncExitStack() as stack:
        opened = await open_gateways(stack, tmp_path, desk.target)
        for rig in opened:
            rig.services.inventory.put(sale_terms(sku="phone"))
        yield opened


async def test_a_limit_holds_on_both_gateways_within_a_second(
    desk: RulesDesk, rigs: list[GatewayRig]
) -> None:
    """And when it is reset, the setting holds again."""
    limits = [pb.GateLimit(name="rate_user", value=0.01), pb.GateLimit(name="burst_user", value=1)]
    request = pb.SetLimitsRequest(limits=limits)
    answer = await desk.stub.SetLimits(request, metadata=desk.metadata)
    await in_force(rigs, answer.revision)
    for rig in rigs:
        await rig.token("phone", "alice")
        refused = await failure(rig.token("phone", "alice"))
        assert details(refused)["QuotaFailure"].violations[0].subject == "user"
    reset = await desk.stub.ResetLimits(pb.ResetLimitsRequest(), metadata=desk.metadata)
    await in_force(rigs, reset.revision)
    for rig in rigs:
        await rig.token("phone", "alice")


async def test_an_entry_expires_on_both_gateways(desk: RulesDesk, rigs: list[GatewayRig]) -> None:
    """At its time, by itself; the database keeps the row until another one is added."""
    expire_time = Timestamp()
    expire_time.FromNanoseconds(int((time.time() + ENTRY_S) * 1e9))
    answer = await desk.stub.AddListEntry(
        pb.AddListEntryRequest(
            list=pb.GATE_LIST_DENY,
            kind=pb.GATE_ENTRY_KIND_USER,
            value="mallory",
            reason="r",
            expire_time=expire_time,
        ),
        metadata=desk.metadata,
    )
    await in_force(rigs, answer.revision)
    for rig in rigs:
        assert reason_of(await failure(rig.token("phone", "mallory"))) == "DENIED"
    for rig in rigs:
        await until_no_user_is_listed(rig.gateway.rules)
        await rig.token("phone", "mallory")


async def test_rules_stay_while_the_order_service_is_away_and_change_when_it_is_back(
    database_dsn: str, tmp_path: Path
) -> None:
    """What changed meanwhile is in force once it is heard of again."""
    port = pick_free_port()
    async with AsyncExitStack() as stack:
        async with open_rules_desk(database_dsn, tmp_path, port=port) as first:
            rigs = await open_gateways(stack, tmp_path, f"dns:///{LOOPBACK}:{port}")
            limits = [pb.GateLimit(name="rate_ip", value=7)]
            await first.stub.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=first.metadata)
            await in_force(rigs, 1)

        async def all_down() -> bool:
            return all(rig.gateway.rules.age_s() > 0 for rig in rigs)

        await eventually(all_down)
        for rig in rigs:
            assert rig.gateway.rules.rules.limits == {"rate_ip": 7}
        async with open_rules_desk(database_dsn, tmp_path, port=port) as again:
            await again.stub.ResetLimits(pb.ResetLimitsRequest(), metadata=again.metadata)
            for rig in rigs:
                rules = await rules_in_force(rig.gateway.rules, 2)
                assert rules.limits == {}
                assert rig.gateway.rules.age_s() == 0


async def test_what_is_wrong_with_a_command_is_said_in_one_line(desk: RulesDesk) -> None:
    """Before anything is asked for, or as the service's answer naming the field."""
    run = desk.desk.command
    reason = ("--reason", "r")
    alone = await asyncio.gather(
        run("limits", "set", "rate_user=fast", fails=True),
        run("list", "add", "deny", "--user", "a", "--network", "::1", *reason, fails=True),
    )
    for shown in alone:
        assert len(shown.splitlines()) == 1, shown
        assert shown.startswith("error: ")
    answered = await asyncio.gather(
        run("limits", "set", "rate_user=-1", "speed=1", fails=True),
        run("list", "add", "deny", "--network", "0.0.0.0/0", *reason, fails=True),
    )
    assert "limits[0].value rate_user must be" in answered[0]
    assert "limits[1].name 'speed' is no limit" in answered[0]
    assert "value must have a prefix" in answered[1]
