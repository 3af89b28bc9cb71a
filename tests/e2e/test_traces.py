"""One trace leads from a purchase to its order, as a real collector receives it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from devstack import Stores
from seckill.runtime.traceparent import TraceContext
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    order_pb2,
    order_pb2_grpc,
)
from tests.kits.actions import CALL_S, Gateway, open_sale, order_when_there, purchase_token
from tests.kits.collector import Collector, Seen, collecting
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import ALL_SECURE, Mesh
from tests.kits.own_mesh import own_mesh
from tests.kits.prometheus import scraping
from tests.kits.tracing import CALLER, SAMPLED, TRACE_ID
from tests.kits.waiting import eventually
from tests.kits.webhooks import new_secret, receiving

PURCHASE = "seckill.v1.GatewayService/Purchase"
RESERVE = "seckill.v1.InventoryService/BatchReserve"
RELEASE = "seckill.v1.InventoryService/Release"
CALLED = f"{CALLER.span_id:016x}"


@asynccontextmanager
async def traced_mesh(
    stores: Stores, *, redis_url: str, database_dsn: str, directory: Path, settings: dict[str, str]
) -> AsyncIterator[Mesh]:
    """Run a mesh of the test's own."""
    async with own_mesh(
        stores,
        redis_url=redis_url,
        database_dsn=database_dsn,
        directory=directory,
        settings=settings,
        secure=ALL_SECURE,
    ) as mesh:
        await asyncio.to_thread(mesh.__enter__)
        yield mesh


async def attempt(gateway: Gateway, mesh: Mesh, *, sku: str, user: str, header: str = "") -> str:
    """Buy with this traceparent, and return the order's number."""
    token = await purchase_token(gateway, mesh, sku=sku, user=user)
    answer = await gateway.Purchase(
        gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id=new_id("r")),
        metadata=(*mesh.identity(user), *([("traceparent", header)] if header else [])),
        timeout=CALL_S,
    )
    assert answer.outcome == inventory_pb2.PURCHASE_OUTCOME_RESERVED
    return answer.order_no


async def led_on(collector: Collector, span: Seen, name: str, kind: str) -> Seen:
    """Wait for the span of this name and kind below another one, and return it."""
    return await collector.span(name, kind=kind, parent_id=span.span_id, trace_id=span.trace_id)


@pytest.mark.slow
@pytest.mark.parametrize("front", ["http2", "grpcio"])
async def test_one_trace_leads_from_the_attempt_to_the_order(
    stores: Stores, redis_url: str, database_dsn: str, tmp_path: Path, front: str
) -> None:
    """Over batch, script, Kafka and transaction; another buyer's attempt is in none."""
    async with (
        collecting() as collector,
        traced_mesh(
            stores,
            redis_url=redis_url,
            database_dsn=database_dsn,
            directory=tmp_path,
            settings=collector.settings(
                share=0,
                SECKILL_GATEWAY_FRONT=front,
                SECKILL_GATEWAY_INVENTORY_CHANNEL=front,
                SECKILL_INVENTORY_FRONT=front,
            ),
        ) as mesh,
        mesh.channel("gateway") as channel,
    ):
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        sku, topic = (
            await open_sale(mesh, sale_terms(units=9)),
            mesh.settings["SECKILL_ORDERS_TOPIC"],
        )
        other, user = new_id("buyer"), new_id("buyer")
        await attempt(gateway, mesh, sku=sku, user=other)
        order_no = await attempt(gateway, mesh, sku=sku, user=user, header=SAMPLED)
        await order_when_there(gateway, mesh, order_no=order_no, user=user)
        call = await collector.span(PURCHASE, kind="SERVER", parent_id=CALLED)
        batch = await led_on(collector, call, "batch inventory", "INTERNAL")
        reserve = await led_on(collector, batch, RESERVE, "SERVER")
        script = await led_on(collector, reserve, "EVALSHA reserve", "CLIENT")
        sent = await led_on(collector, reserve, f"send {topic}", "PRODUCER")
        process = await led_on(collector, sent, f"process {topic}", "CONSUMER")
        written = await led_on(collector, process, "INSERT orders", "CLIENT")
        trace = collector.trace(TRACE_ID)
        everything = [*collector.spans]
        metrics = await asyncio.to_thread(mesh.metrics, "gateway")
    steps = [call, batch, reserve, script, sent, process, written]
    assert [span.service for span in steps] == [
        *("gateway", "gateway", "inventory", "inventory", "inventory", "order", "order")
    ]
    assert {span.span_id for span in trace} == {span.span_id for span in steps}
    assert batch.links == (call.place,)
    assert process.links == (sent.place,)
    assert call.attributes["seckill.outcome"] == "RESERVED"
    assert call.attributes["seckill.order_no"] == order_no
    assert call.attributes["rpc.system.name"] == "grpc"
    assert script.attributes["db.system.name"] == "redis"
    assert script.attributes["db.stored_procedure.name"] == "reserve"
    assert sent.attributes["messaging.system"] == "kafka"
    assert sent.attributes["messaging.destination.name"] == topic
    assert process.attributes["messaging.consumer.group.name"]
    assert written.attributes["db.system.name"] == "postgresql"
    assert [span.error for span in everything] == [None] * len(everything)
    # Nobody else's call is traced: the share is 0.
    assert {span.trace_id for span in everything} == {TRACE_ID}
    assert 'seckill_trace_spans_total{result="exported"}' in metrics


@pytest.mark.slow
async def test_what_comes_back_and_what_the_shop_is_told_is_traced(
    stores: Stores, redis_url: str, database_dsn: str, tmp_path: Path
) -> None:
    """A restore from rollback to the script, and a webhook that names its trace."""
    async with receiving() as receiver, collecting() as collector:
        endpoints = [{"name": "shop", "url": receiver.url, "secret": new_secret()}]
        settings = {"SECKILL_ORDER_WEBHOOK_ENDPOINTS": json.dumps(endpoints)}
        async with (
            traced_mesh(
                stores,
                redis_url=redis_url,
                database_dsn=database_dsn,
                directory=tmp_path,
                settings={**collector.settings(), **settings},
            ) as mesh,
            mesh.channel("gateway") as channel,
            mesh.channel("order") as orders,
        ):
            gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
            sku, user = await open_sale(mesh, sale_terms(units=9)), new_id("buyer")
            order_no = await attempt(gateway, mesh, sku=sku, user=user, header=SAMPLED)
            await order_when_there(gateway, mesh, order_no=order_no, user=user)
            await order_pb2_grpc.OrderServiceStub(orders).CancelOrder(
                order_pb2.CancelOrderRequest(order_no=order_no), timeout=CALL_S
            )
            restore = await collector.span("restore", service="rollback")
            release = await led_on(collector, restore, RELEASE, "SERVER")
            await led_on(collector, release, "EVALSHA release", "CLIENT")
            # Of the order that the trace has made.
            sent = await collector.span("POST", service="order", trace_id=TRACE_ID)
            (told, *_) = await receiver.got(1)
    assert restore.parent_id == ""
    assert sent.kind == "CLIENT"
    assert sent.attributes["http.response.status_code"] == 204
    assert (
        told.headers["traceparent"] == TraceContext(int(TRACE_ID, 16), int(sent.span_id, 16)).header
    )


@pytest.mark.slow
async def test_prometheus_keeps_the_trace_of_a_purchase_as_an_exemplar(
    stores: Stores, redis_url: str, database_dsn: str, tmp_path: Path
) -> None:
    """Of the gateway's calls and of the order service's transactions; and the log names it."""
    async with (
        collecting() as collector,
        traced_mesh(
            stores,
            redis_url=redis_url,
            database_dsn=database_dsn,
            directory=tmp_path,
            settings=collector.settings(share=0, SECKILL_GATEWAY_INVENTORY_TIMEOUT_S="2"),
        ) as mesh,
        mesh.channel("gateway") as channel,
    ):
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        sku, user = await open_sale(mesh, sale_terms(units=9)), new_id("buyer")
        with scraping(mesh, tmp_path) as prometheus:
            order_no = await attempt(gateway, mesh, sku=sku, user=user, header=SAMPLED)
            await order_when_there(gateway, mesh, order_no=order_no, user=user)

            async def exemplars(metric: str, job: str) -> set[str]:
                data = await asyncio.to_thread(
                    prometheus.ask,
                    "query_exemplars",
                    query=f'{metric}_bucket{{job="{job}"}}',
                    start=str(time.time() - 600),
                    end=str(time.time() + 60),
                )
                series = data or []
                return {one["labels"]["trace_id"] for found in series for one in found["exemplars"]}

            for metric, job in (
                ("grpc_server_handling_seconds", "gateway"),
                ("grpc_server_handling_seconds", "inventory"),
                ("seckill_order_insert_seconds", "order"),
            ):
                await eventually(partial(exemplars, metric, job), lambda found: found == {TRACE_ID})
        other = new_id("buyer")
        token = await purchase_token(gateway, mesh, sku=sku, user=other)
        mesh.kill("inventory")
        with pytest.raises(grpc.aio.AioRpcError):
            await gateway.Purchase(
                gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id=new_id("r")),
                metadata=(*mesh.identity(other), ("traceparent", SAMPLED)),
                timeout=CALL_S,
            )
        failed = await collector.span(PURCHASE, error="UNAVAILABLE")
        lines = [json.loads(line) for line in mesh.log("gateway").splitlines()]
    named = [line for line in lines if line.get("trace_id") == failed.trace_id == TRACE_ID]
    assert "call failed" in {line["event"] for line in named}


@pytest.mark.slow
async def test_a_mesh_whose_collector_is_away_sells_and_says_so_once(
    stores: Stores, redis_url: str, database_dsn: str, tmp_path: Path
) -> None:
    """Each service ends in time, too."""
    async with collecting() as collector:
        settings = collector.settings(SECKILL_TRACES_TIMEOUT_S="0.3")
    async with (
        traced_mesh(
            stores,
            redis_url=redis_url,
            database_dsn=database_dsn,
            directory=tmp_path,
            settings=settings,
        ) as mesh,
        mesh.channel("gateway") as channel,
    ):
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        sku = await open_sale(mesh, sale_terms(units=9))

        async def failed() -> bool:
            user = new_id("buyer")
            await attempt(gateway, mesh, sku=sku, user=user)
            metrics = await asyncio.to_thread(mesh.metrics, "gateway")
            return 'seckill_trace_spans_total{result="failed"} 0.0' not in metrics

        await eventually(failed, bool)
        assert await asyncio.to_thread(mesh.terminate, "gateway") == 0
        lines = [json.loads(line) for line in mesh.log("gateway").splitlines()]
    told = [line for line in lines if line["event"] == "spans not taken by the collector"]
    assert len(told) == 1
    assert told[0]["error"]
