"""The `seckill` command against a mesh by address."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict

from deploy.local.mesh import REPOSITORY_ROOT
from seckill.v1 import gateway_pb2, order_pb2
from tests.e2e.actions import CALL_S, Gateway, buy, order_when_there
from tests.factories import new_id
from tests.mesh import Mesh


def seckill(mesh: Mesh, *arguments: str, fails: bool = False) -> str:
    """Run the command; returns what it printed."""
    env = {key: value for key, value in os.environ.items() if "SECKILL_" not in key}
    targets = {key: value for key, value in mesh.settings.items() if key.endswith("_TARGET")}
    done = subprocess.run(
        [sys.executable, "-m", "seckill", *arguments],
        env={**env, **targets, "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_a_sale_is_created_listed_paused_and_reopened(mesh: Mesh) -> None:
    """Each step shows the sale as it stands."""
    sku = new_id("cli")
    assert "9.90 CNY" in seckill(mesh, "sale", "create", sku, "--units", "3", "--price", "9.90")
    assert sku in seckill(mesh, "sale", "list")
    assert "paused" in seckill(mesh, "sale", "pause", sku)
    assert "paused" in seckill(mesh, "sale", "show", sku)
    assert "open" in seckill(mesh, "sale", "reopen", sku)


async def test_the_kill_switch_is_thrown_shown_and_lifted(mesh: Mesh) -> None:
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
    """Unknown sku, bad price, bad time, and nobody at the address."""
    assert "NOT_FOUND" in seckill(mesh, "sale", "show", "no-such-sale", fails=True)
    assert "'cheap'" in seckill(
        mesh, "sale", "create", "x", "--units", "1", "--price", "cheap", fails=True
    )
    assert "terms.total_units" in seckill(mesh, "sale", "create", "x", "--units", "0", fails=True)
    nobody = seckill(mesh, "sale", "list", "--inventory", "127.0.0.1:1", fails=True)
    assert "UNAVAILABLE" in nobody


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
    """`bench orders` buys, waits, and writes what PayOrder takes; it says where a sale ends."""
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
