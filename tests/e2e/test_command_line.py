"""The `seckill` command against a mesh by address."""

import json
import re
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict

from seckill.v1 import gateway_pb2, order_pb2
from tests.kits.actions import CALL_S, Gateway, buy, order_when_there
from tests.kits.command import seckill
from tests.kits.factories import new_id
from tests.kits.mesh import Mesh


async def test_a_sale_is_created_listed_paused_and_reopened(mesh: Mesh) -> None:
    """Each step shows the sale as it stands."""
    sku = new_id("cli")
    assert "9.90 CNY" in seckill(mesh, "sale", "create", sku, "--units", "3", "--price", "9.90")
    assert sku in seckill(mesh, "sale", "list")
    assert "paused" in seckill(mesh, "sale", "pause", sku)
    assert "paused" in seckill(mesh, "sale", "show", sku)
    assert "open" in seckill(mesh, "sale", "reopen", sku)


async def test_the_kill_switch_is_enabled_shown_and_disabled(mesh: Mesh) -> None:
    """With since when, and why."""
    try:
        assert "wrong price" in seckill(mesh, "kill-switch", "on", "--reason", "wrong price")
        shown = seckill(mesh, "kill-switch", "show")
        assert "is on since" in shown
        assert "wrong price" in shown
    finally:
        assert "is off" in seckill(mesh, "kill-switch", "off")


async def test_orders_are_shown_paid_and_cancelled(mesh: Mesh, gateway: Gateway) -> None:
    """As an operator, without the buyer's identity."""
    sku = new_id("cli")
    seckill(mesh, "sale", "create", sku, "--units", "3")
    numbers = []
    for user in (new_id("buyer"), new_id("buyer")):
        bought = await buy(gateway, mesh, sku=sku, user=user)
        await order_when_there(gateway, mesh, order_no=bought.order_no, user=user)
        numbers.append(bought.order_no)
    assert "pending" in seckill(mesh, "order", "show", numbers[0])
    assert "paid" in seckill(mesh, "order", "pay", numbers[0])
    assert "cancelled" in seckill(mesh, "order", "cancel", numbers[1])
    listed = seckill(mesh, "order", "list", "--sku", sku)
    assert all(number in listed for number in numbers)
    assert numbers[1] not in seckill(mesh, "order", "list", "--sku", sku, "--state", "paid")


async def test_what_is_wrong_is_said_in_a_line_with_its_details(mesh: Mesh) -> None:
    """An unknown sku by the service; what no service need be asked about, by the command."""
    assert "NOT_FOUND" in seckill(mesh, "sale", "show", "no-such-sale", fails=True)
    create = ("sale", "create", "x", "--units")
    assert "'cheap'" in seckill(mesh, *create, "1", "--price", "cheap", fails=True)
    assert "--units" in seckill(mesh, *create, "0", fails=True)
    backwards = ("--start", "+2h", "--end", "+1h")
    assert "terms.end_time" in seckill(mesh, *create, "1", *backwards, fails=True)


async def test_text_from_outside_is_text(mesh: Mesh, gateway: Gateway) -> None:
    """A title with markup that turns the writing round, a buyer whose id is a tag."""
    sku, user = new_id("cli"), f"[/{new_id('x')}]"
    title = "50% off [/b] today\u202e :smile:"
    made = seckill(mesh, "sale", "create", sku, "--units", "3", "--title", title)
    for shown in (made, seckill(mesh, "sale", "show", sku), seckill(mesh, "sale", "list")):
        assert r"50% off [/b] today\u202e :smile:" in shown
    bought = await buy(gateway, mesh, sku=sku, user=user)
    await order_when_there(gateway, mesh, order_no=bought.order_no, user=user)
    assert user in seckill(mesh, "order", "list", "--sku", sku)
    assert user in seckill(mesh, "order", "show", bought.order_no)


@pytest.mark.parametrize("ttl", [(), ("--ttl", "10m")], ids=["issued", "signed here"])
async def test_the_load_generators_files_buy_units(
    mesh: Mesh, gateway: Gateway, tmp_path: Path, ttl: tuple[str, ...]
) -> None:
    """`bench tokens` writes purchases with identities that the gateway accepts."""
    sku = new_id("cli")
    seckill(mesh, "sale", "create", sku, "--units", "3")
    data, metadata = tmp_path / "data.json", tmp_path / "metadata.json"
    files = ("--data", str(data), "--metadata", str(metadata))
    secrets = ("--secrets", str(mesh.directory / "secrets"))
    seckill(mesh, "bench", "tokens", "--sku", sku, "--count", "5", *ttl, *files, *secrets)
    purchases, identities = json.loads(data.read_text()), json.loads(metadata.read_text())
    assert len(purchases) == len(identities) == 5
    assert re.fullmatch(r"Bearer \S+\.\S+\.\S+", identities[0]["authorization"])
    outcomes = [
        await gateway.Purchase(
            ParseDict(purchase, gateway_pb2.PurchaseRequest()),
            metadata=tuple(identity.items()),
            timeout=CALL_S,
        )
        for purchase, identity in zip(purchases, identities, strict=True)
    ]
    won = [answer for answer in outcomes if answer.order_no]
    assert len(won) == 3


async def test_the_load_generators_orders_are_there_to_be_paid(
    mesh: Mesh, gateway: Gateway, tmp_path: Path
) -> None:
    """`bench orders` buys, waits, and writes what PayOrder takes; it says if too few are left."""
    sku = new_id("cli")
    seckill(mesh, "sale", "create", sku, "--units", "3", "--price", "9.90")
    paths = {name: tmp_path / f"{name}.json" for name in ("data", "payments", "metadata")}
    options = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    options += ["--secrets", str(mesh.directory / "secrets")]
    seckill(mesh, "bench", "orders", "--sku", sku, "--count", "2", *options)
    numbers, payments, owners = (json.loads(path.read_text()) for path in paths.values())
    for number, payment, owner in zip(numbers, payments, owners, strict=True):
        request = ParseDict(payment, gateway_pb2.GatewayServicePayOrderRequest())
        answer = await gateway.PayOrder(request, metadata=tuple(owner.items()), timeout=CALL_S)
        assert answer.order.order_no == number["order_no"]
        assert answer.order.state == order_pb2.ORDER_STATE_PAID
    told = seckill(mesh, "bench", "orders", "--sku", sku, "--count", "2", *options, fails=True)
    assert "SOLD_OUT" in told


async def test_a_unit_is_bought_and_given_back_to_try_a_mesh(mesh: Mesh) -> None:
    """Sale, purchase, refusal of the second one, order, cancellation, the unit's return."""
    told = seckill(mesh, "try", "--identity", mesh.issuer.token(new_id("buyer")))
    for word in ("bought", "refused", "in the database", "cancelled", "back on sale"):
        assert word in told


async def test_a_unit_is_bought_and_paid_in_a_sandbox(mesh: Mesh) -> None:
    """As a trial shows it."""
    assert "paid" in seckill(mesh, "try", "--pay", "--identity", mesh.issuer.token(new_id("buyer")))


async def test_trying_fails_without_a_buyer_and_with_one_whom_nobody_knows(mesh: Mesh) -> None:
    """Each with its reason, in a line."""
    assert "SECKILL_IDENTITY" in seckill(mesh, "try", fails=True)
    assert "IDENTITY_INVALID" in seckill(mesh, "try", "--identity", "a.b.c", fails=True)
