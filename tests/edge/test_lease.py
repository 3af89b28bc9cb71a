"""The lease alone, granted by the test in the agent's place to a real Envoy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.bootstrap import AGENT_SOCKET
from edge.lease import Lease
from edge.refusals import Refusal, RefusalPlan
from edge.render import routes_path, write_routes
from edge.settings import EdgeSettings
from seckill.runtime.server import Health, serving
from seckill.v1 import inventory_pb2
from tests.kits.edge import ENVOY, Edge
from tests.kits.edge_upstream import running_upstream
from tests.kits.waiting import eventually

SKU = "phone"
REFUSED = RefusalPlan(sales=(Refusal(SKU, inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT),))


class Leased:
    """An Envoy in front of a gateway that always sells, and what it may refuse."""

    def __init__(self, edge: Edge, settings: EdgeSettings, lease: Lease) -> None:
        self.edge = edge
        self.settings = settings
        self.lease = lease

    async def refuses(self) -> bool:
        """Whether Envoy answers a purchase by itself; the gateway behind it reserves for all."""
        answer = await self.edge.call("POST", f"/v1/sales/{SKU}:purchase", {})
        return bool(answer.json["outcome"] != "PURCHASE_OUTCOME_RESERVED")

    async def until(self, refuses: bool) -> None:
        """Wait for Envoy to refuse, or to pass on."""
        await eventually(self.refuses, lambda seen: seen is refuses)


@pytest.fixture
async def leased(tmp_path: Path) -> AsyncIterator[Leased]:
    """Running, with nothing granted."""
    async with running_upstream() as upstream:
        mesh_settings = {
            "SECKILL_GATEWAY_TARGET": upstream.target,
            "SECKILL_PROFILE": "development",
        }
        edge = Edge(mesh_settings, directory=tmp_path)
        settings = EdgeSettings(
            edge_directory=tmp_path / "edge", gateway_target=upstream.target, edge_lease_s=0.5
        )
        lease = Lease(ttl_s=settings.edge_lease_s)
        socket = settings.edge_directory / AGENT_SOCKET
        async with serving(
            f"unix:{socket}",
            lease.register,
            settings=settings,
            health_state=Health([]),
            services=[],
        ):
            await asyncio.to_thread(edge.start, ENVOY)
            try:
                yield Leased(edge, settings, lease)
            finally:
                lease.close()
                await asyncio.to_thread(edge.stop)


async def test_a_refusal_holds_under_its_own_lease_only(leased: Leased) -> None:
    """Routes without a lease refuse nothing, and neither do those of another lease."""
    assert not await leased.refuses()
    write_routes(leased.settings, REFUSED, "lease.life.1")
    leased.lease.grant("lease.life.1")
    await leased.until(True)
    leased.lease.grant("lease.life.2")
    await leased.until(False)
    write_routes(leased.settings, REFUSED, "lease.life.2")
    await leased.until(True)
    leased.lease.grant(None)
    await leased.until(False)


async def test_routes_that_envoy_will_not_have_end_what_the_last_ones_allowed(
    leased: Leased,
) -> None:
    """Envoy keeps the old routes; the lease has gone on to the new ones."""
    write_routes(leased.settings, REFUSED, "lease.life.1")
    leased.lease.grant("lease.life.1")
    await leased.until(True)
    broken = leased.settings.edge_directory / "broken.json"
    broken.write_text('{"resources": [{"no": "routes"}]}')
    broken.rename(routes_path(leased.settings))
    leased.lease.grant("lease.life.2")
    await leased.until(False)
    write_routes(leased.settings, REFUSED, "lease.life.3")
    leased.lease.grant("lease.life.3")
    await leased.until(True)


async def test_a_lease_that_is_not_renewed_expires(leased: Leased) -> None:
    """The agent closes its streams and grants no more: Envoy drops the lease by itself."""
    write_routes(leased.settings, REFUSED, "lease.life.1")
    leased.lease.grant("lease.life.1")
    await leased.until(True)
    leased.lease.close()
    await leased.until(False)
