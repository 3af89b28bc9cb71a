"""Sales in a Redis Cluster whose replicas answer what is only looked at, by the real services."""

import uuid

import pytest

from devstack import Stores, ValkeyCluster
from seckill.client import Outcome
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    sale_pb2,
)
from tests.kits.factories import sale_terms
from tests.kits.faults.fixtures import MakeBuyers, MakeCluster
from tests.kits.redis_cluster import crossed_slots, sku_at
from tests.kits.waiting import eventually

pytestmark = pytest.mark.slow
FROM_REPLICAS = {"redis_read_from": "replica"}
CALL_S = 10.0
READY_S = 60.0


async def test_replicas_answer_polls_and_sales_and_payers_read_that_they_have_paid(
    make_cluster: MakeCluster,
    make_buyers: MakeBuyers,
    cluster_stores: Stores,
    redis_cluster: ValkeyCluster,
) -> None:
    """The payment is at one replica of the service, the poll at another."""
    async with make_cluster(cluster_stores) as mesh:
        await mesh.start("order", "order/b", "inventory", **FROM_REPLICAS)
        terms = sale_terms(sku=sku_at(redis_cluster, redis_cluster.masters()[0]), units=5)
        await mesh.open_sale(terms)
        told = await make_buyers(mesh, terms.sku).arrive(5)
        assert [attempt.outcome for attempt in told] == [Outcome.RESERVED] * 5
        numbers = [attempt.order_no for attempt in told]
        request = order_pb2.BatchGetOrdersRequest(order_nos=numbers)
        async with (
            mesh.channel("order") as channel,
            mesh.channel("order/b") as other_channel,
            mesh.channel("inventory") as inventory_channel,
        ):
            orders = order_pb2_grpc.OrderServiceStub(channel)
            others = order_pb2_grpc.OrderServiceStub(other_channel)

            async def polled() -> order_pb2.BatchGetOrdersResponse:
                return await others.BatchGetOrders(request, timeout=CALL_S)

            await eventually(
                polled,
                lambda answer: all(answer.orders) and answer.HasField("age"),
                timeout_s=READY_S,
            )
            for number in numbers:
                (encoded,) = (
                    await others.BatchGetOrders(
                        order_pb2.BatchGetOrdersRequest(order_nos=[number]), timeout=CALL_S
                    )
                ).orders
                amount = order_pb2.Order.FromString(encoded).amount
                await orders.PayOrder(
                    order_pb2.PayOrderRequest(
                        order_no=number,
                        payment_id=uuid.uuid4().hex,
                        amount=sale_pb2.Money(
                            currency=amount.currency, minor_units=amount.minor_units
                        ),
                    ),
                    timeout=CALL_S,
                )
                states = [
                    order_pb2.Order.FromString(order).state for order in (await polled()).orders
                ]
                assert states[numbers.index(number)] == order_pb2.ORDER_STATE_PAID
            inventory = inventory_pb2_grpc.InventoryServiceStub(inventory_channel)

            async def looked(*, replica_allowed: bool) -> inventory_pb2.GetSaleResponse:
                question = inventory_pb2.GetSaleRequest(
                    sku=terms.sku, replica_allowed=replica_allowed
                )
                return await inventory.GetSale(question, timeout=CALL_S)

            await eventually(
                lambda: looked(replica_allowed=True),
                lambda answer: answer.HasField("age") and answer.sale.sold_out,
                timeout_s=READY_S,
            )
            exact = await looked(replica_allowed=False)
            assert exact.sale.sold_out
            assert not exact.HasField("age")
        assert not crossed_slots(redis_cluster)
