"""The time of a retry as an HTTP header, if the gateway says so in RetryInfo."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack.ports import LOOPBACK
from tests.kits.edge import Answer, Edge
from tests.kits.edge_front import edge_before
from tests.kits.factories import sale_terms
from tests.kits.gateway import GatewayRig, open_rig
from tests.kits.waiting import eventually


@dataclass
class Front:
    """A gateway with its small services, and a real Envoy before it."""

    edge: Edge
    behind: GatewayRig

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        """As JSON, by one buyer."""
        headers = {**dict(self.behind.identity("buyer")), "content-type": "application/json"}
        return await self.edge.call(method, path, body, headers=headers)


@pytest.fixture(params=["http2", "grpcio"])
async def front(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Front]:
    """Either front of the gateway; it gives one buyer a call every ten seconds."""
    async with AsyncExitStack() as stack:
        behind = await open_rig(
            stack, tmp_path, str(request.param), gateway_rate_user=0.1, gateway_burst_user=1
        )
        await behind.gateway.health.set_ready(True)
        target = f"dns:///{LOOPBACK}:{behind.gateway.port}"
        # The other front speaks no JSON.
        settings = {"SECKILL_EDGE_JSON": "passed" if request.param == "http2" else "transcoded"}
        edge = await stack.enter_async_context(edge_before(target, tmp_path / "edge", settings))
        yield Front(edge, behind)


def retry_info(answer: Answer) -> float:
    """Seconds that RetryInfo says."""
    found: list[Any] = [
        detail for detail in answer.json["details"] if detail["@type"].endswith("RetryInfo")
    ]
    return float(found[0]["retryDelay"].removesuffix("s"))


async def test_refusals_that_pass_say_when_to_come_back(front: Front) -> None:
    """429 of an empty bucket and 503 of an absent service: RetryInfo, rounded up to a second."""
    sku = front.behind.services.inventory.put(sale_terms())
    path = f"/v1/sales/{sku}:issuePurchaseToken"
    hasty = await eventually(
        lambda: front.call("POST", path, {}), lambda seen: seen.status not in {200, 404}
    )
    assert (hasty.status, hasty.reason) == (429, "RATE_LIMITED")
    assert 0 <= int(hasty.headers["retry-after"]) - retry_info(hasty) < 1
    assert hasty.headers["content-type"] == "application/json"
    await front.behind.services.stop()
    away = await eventually(
        lambda: front.edge.call("GET", "/v1/sales"), lambda seen: seen.status != 200
    )
    assert (away.status, away.reason) == (503, "DEPENDENCY_UNAVAILABLE")
    assert 0 <= int(away.headers["retry-after"]) - retry_info(away) < 1


async def test_refusals_that_last_do_not(front: Front) -> None:
    """A call that is wrong, or was answered, names no time for a retry."""
    sku = front.behind.services.inventory.put(sale_terms())
    shown = await eventually(
        lambda: front.call("GET", f"/v1/sales/{sku}"), lambda seen: seen.status == 200
    )
    wrong = await front.call("POST", f"/v1/sales/{sku}:purchase", {"request_id": "a b"})
    assert wrong.status == 400
    assert "retry-after" not in wrong.headers
    assert "retry-after" not in shown.headers
