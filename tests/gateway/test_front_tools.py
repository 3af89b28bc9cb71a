"""grpcurl and ghz, as `make tools` builds them, against either front."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kits.factories import sale_terms
from tests.kits.gateway import GatewayRig, open_rig
from tools.install import BIN

SERVICE = "seckill.v1.GatewayService"
TOOL_S = 60.0
# What grpcurl adds to the code of a status to make its exit status.
GRPCURL_EXIT = 64
CALLS = 1_000


def tool(name: str) -> Path:
    """Where it is; skips the test if it has not been built."""
    path = BIN / name
    if not path.exists():
        pytest.skip(f"{name} is not built: run `make tools`, which needs Go")
    return path


async def run(path: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a tool; returns its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        path, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(TOOL_S):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def grpcurl(
    rig: GatewayRig, method: str, request: object, *options: str
) -> tuple[int, str, str]:
    """Call a method in plaintext; the contract comes by reflection."""
    return await run(
        tool("grpcurl"),
        "-plaintext",
        *options,
        "-d",
        json.dumps(request),
        f"127.0.0.1:{rig.gateway.port}",
        f"{SERVICE}/{method}",
    )


async def ghz(rig: GatewayRig, method: str, request: object, *options: str) -> Any:
    """Many calls of a method over ten connections; returns the report."""
    status, out, err = await run(
        tool("ghz"),
        *("--insecure", "--call", f"{SERVICE}.{method}", "--data", json.dumps(request)),
        *("--total", str(CALLS), "--concurrency", "50", "--connections", "10"),
        *("--timeout", "60s", "--format", "json", *options),
        f"127.0.0.1:{rig.gateway.port}",
    )
    assert status == 0, err
    return json.loads(out)


async def test_grpcurl_buys_and_is_told_what_is_wrong(rig: GatewayRig) -> None:
    """Token and attempt in JSON; a refusal by its code, with its details."""
    sku = rig.services.inventory.put(sale_terms())
    identity = ("-H", f"authorization: {rig.identity('buyer')[0][1]}")
    status, out, err = await grpcurl(rig, "IssuePurchaseToken", {"sku": sku}, *identity)
    assert status == 0, err
    # Python's descriptors, which reflection shows, have no names for JSON.
    token = json.loads(out)["purchase_token"]
    attempt = {"sku": sku, "request_id": "attempt-1", "purchase_token": token}
    status, out, err = await grpcurl(rig, "Purchase", attempt, *identity)
    assert status == 0, err
    assert json.loads(out)["outcome"] == "PURCHASE_OUTCOME_RESERVED"
    status, _, err = await grpcurl(rig, "Purchase", attempt)
    assert status == GRPCURL_EXIT + grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert "IDENTITY_MISSING" in err


async def test_ghz_counts_answers_and_refusals_by_their_codes(front: str, tmp_path: Path) -> None:
    """A thousand looks and a thousand attempts are OK; without an identity none is."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_rate_user=0)
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=1))
        report = await ghz(rig, "GetSale", {"sku": sku})
        assert report["statusCodeDistribution"] == {"OK": CALLS}
        attempt = {"sku": sku, "request_id": "{{.RequestNumber}}"}
        refused = await ghz(rig, "Purchase", attempt)
        assert refused["statusCodeDistribution"] == {"Unauthenticated": CALLS}
        identity = json.dumps(dict(rig.identity("buyer")))
        attempt["purchase_token"] = await rig.token(sku, "buyer")
        report = await ghz(rig, "Purchase", attempt, "--metadata", identity)
        assert report["statusCodeDistribution"] == {"OK": CALLS}
        assert inventory.holds[sku].keys() == {"buyer"}
        assert inventory.sales[sku].remaining_units == 0
