"""What the services export while a sale runs."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from devstack.mesh import SERVICES
from seckill.v1 import order_pb2
from tests.kits.actions import CALL_S, Gateway, Orders, buy, open_sale, order_when_there
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually


def values(mesh: Mesh, name: str, metric: str, /, **labels: str) -> list[float]:
    """Return the values of a metric's series that have these labels."""
    return [
        sample.value
        for family in text_string_to_metric_families(mesh.metrics(name))
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    ]


async def seen(mesh: Mesh, name: str, metric: str, wanted: float, /, **labels: str) -> None:
    """Wait until a metric has one series with these labels, of this value."""

    async def look() -> list[float]:
        return await asyncio.to_thread(values, mesh, name, metric, **labels)

    await eventually(look, lambda found: found == [wanted])


async def test_no_service_tells_when_a_series_was_created(mesh: Mesh) -> None:
    """That would double the counters; each says that it can serve."""
    for service in SERVICES:
        families = list(text_string_to_metric_families(mesh.metrics(service.name)))
        assert not [family.name for family in families if family.name.endswith("_created")]
        assert values(mesh, service.name, "seckill_ready", service=service.name) == [1.0]


async def test_a_sale_is_shown_from_the_hold_to_the_way_back(
    mesh: Mesh, gateway: Gateway, orders: Orders
) -> None:
    """Redis' view, the database's view, and what came back."""
    sku = await open_sale(mesh, sale_terms(units=5, payment_window_s=300))
    user = new_id("buyer")
    order_no = (await buy(gateway, mesh, sku=sku, user=user)).order_no
    await seen(mesh, "inventory", "seckill_sale_remaining_units", 4, sku=sku)
    await seen(mesh, "inventory", "seckill_sale_held_units", 1, sku=sku)
    await seen(mesh, "inventory", "seckill_sale_payment_window_seconds", 300, sku=sku)
    await seen(mesh, "order", "seckill_sale_order_units", 1, sku=sku, state="pending")
    await seen(mesh, "order", "seckill_sale_unsold_units", 4, sku=sku)
    await order_when_there(gateway, mesh, order_no=order_no, user=user)
    await orders.CancelOrder(order_pb2.CancelOrderRequest(order_no=order_no), timeout=CALL_S)
    await seen(mesh, "order", "seckill_sale_restored_units", 1, sku=sku)
    await seen(mesh, "order", "seckill_sale_oversold_units", 0, sku=sku)
    await seen(mesh, "inventory", "seckill_sale_remaining_units", 5, sku=sku)


async def test_the_way_to_the_database_is_measured(mesh: Mesh, gateway: Gateway) -> None:
    """Lag in messages and seconds, and how long connections are held."""
    sku = await open_sale(mesh, sale_terms(units=5))
    await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
    await seen(mesh, "order", "seckill_sale_order_units", 1, sku=sku, state="pending")
    await seen(mesh, "order", "seckill_consumer_lag_messages", 0)
    await seen(mesh, "order", "seckill_consumer_lag_seconds", 0)
    await seen(mesh, "order", "seckill_projection_outdated_age_seconds", 0)
    for part in ("wait", "hold"):
        (count,) = values(mesh, "order", f"seckill_database_connection_{part}_seconds_count")
        assert count > 0


async def test_the_first_fault_of_a_purchase_is_an_increase(mesh: Mesh) -> None:
    """Its series is there from the start: `increase` does not see the first value of one."""
    for code in ("Unavailable", "Internal", "DeadlineExceeded", "ResourceExhausted"):
        found = values(
            mesh,
            "gateway",
            "grpc_server_handled_total",
            grpc_service="seckill.v1.GatewayService",
            grpc_method="Purchase",
            grpc_code=code,
        )
        assert len(found) == 1, code
