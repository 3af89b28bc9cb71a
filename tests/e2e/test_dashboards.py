"""A real Prometheus scrapes the mesh during a sale: every query of the dashboards has an answer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from seckill.v1 import order_pb2
from tests.kits.actions import CALL_S, Gateway, Orders, buy, open_sale, order_when_there
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.prometheus import Prometheus, scraping
from tests.kits.waiting import eventually
from tools.observability import expressions
from tools.observability.expressions import Expression

pytestmark = pytest.mark.slow
# What the stores' own exporters tell, which do not run here.
FOREIGN = ("redis_", "pg_", "kafka_")
UNITS = 3


@pytest.fixture
def prometheus(mesh: Mesh, tmp_path: Path) -> Iterator[Prometheus]:
    """Start one with our alert rules."""
    with scraping(mesh, tmp_path) as running:
        yield running


async def test_every_query_has_an_answer_during_a_sale(
    mesh: Mesh, gateway: Gateway, orders: Orders, prometheus: Prometheus
) -> None:
    """And none of the alerts fires in a sale in which nothing is wrong."""
    sku = await open_sale(mesh, sale_terms(units=UNITS))
    users = [new_id("buyer") for _ in range(UNITS)]
    told = [await buy(gateway, mesh, sku=sku, user=user) for user in users]
    await order_when_there(gateway, mesh, order_no=told[0].order_no, user=users[0])
    sold_out = f'seckill_sale_remaining_units{{sku="{sku}"}} == 0'
    await eventually(lambda: prometheus.values(sold_out), lambda found: found == [0.0])
    await orders.CancelOrder(
        order_pb2.CancelOrderRequest(order_no=told[0].order_no), timeout=CALL_S
    )
    back = f'seckill_sale_restored_units{{sku="{sku}"}} == 1'
    await eventually(lambda: prometheus.values(back), lambda found: found == [1.0])
    silent = [one for one in expressions.of_dashboards() if not _is_foreign(one)]
    assert len(silent) > 40

    async def unanswered() -> list[str]:
        # A rate needs two samples.
        silent[:] = [one for one in silent if not await prometheus.values(one.query)]
        return [f"{one.where}: {one.query}" for one in silent]

    await eventually(unanswered, lambda left: not left)
    firing = await asyncio.to_thread(prometheus.ask, "alerts")
    names = {one["labels"]["alertname"] for one in firing["alerts"] if one["state"] == "firing"}
    assert names == set()


def _is_foreign(one: Expression) -> bool:
    return any(name.startswith(FOREIGN) for name in one.metrics)
