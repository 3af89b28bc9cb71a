"""A caller's trace comes through every door: JSON at the gateway and through Envoy, and gRPC."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from devstack.ports import LOOPBACK
from seckill.runtime import tracing
from seckill.runtime.spans import Span, Tracer
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.edge_front import edge_before
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, open_rig
from tests.kits.http import Version, call
from tests.kits.tracing import CALLER, SAMPLED, Kept
from tests.kits.waiting import eventually

GET_SALE = "seckill.v1.GatewayService/GetSale"
LIST_SALES = "seckill.v1.GatewayService/ListSales"


@pytest.mark.parametrize("door", ["http/1.1", "h2", "edge", "edge by gRPC"])
async def test_a_callers_trace_goes_on_in_the_gateway(door: str, tmp_path: Path) -> None:
    """Of a batched method and of one that is not; Envoy's own id changes nothing about it."""
    kept = Kept()
    headers = {"traceparent": SAMPLED}
    with tracing.installed(Tracer(kept, share=0, errors_per_s_max=0, is_first=True)):
        async with AsyncExitStack() as stack:
            rig = await open_rig(stack, tmp_path / "gateway", "http2")
            await rig.gateway.health.set_ready(True)
            sku = rig.services.inventory.put(sale_terms(units=3))
            port = rig.gateway.port
            if door.startswith("edge"):
                target = f"dns:///{LOOPBACK}:{port}"
                edge = await stack.enter_async_context(edge_before(target, tmp_path / "edge", {}))
                port = edge.ports.public

                async def ready() -> int:
                    return (await call(port, "GET", "/v1/sales", version="http/1.1")).status

                await eventually(ready, lambda status: status == 200)
            if door == "edge by gRPC":
                async with edge.channel() as channel:
                    stub = gateway_pb2_grpc.GatewayServiceStub(channel)
                    metadata = tuple(headers.items())
                    get = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
                    await stub.GetSale(get, metadata=metadata, timeout=CALL_S)
                    listing = gateway_pb2.GatewayServiceListSalesRequest()
                    await stub.ListSales(listing, metadata=metadata, timeout=CALL_S)
            else:
                version: Version = "h2" if door == "h2" else "http/1.1"
                for path in (f"/v1/sales/{sku}", "/v1/sales"):
                    answer = await call(port, "GET", path, headers=headers, version=version)
                    assert answer.status == 200

            async def ended() -> list[Span]:
                return [*kept.named(GET_SALE), *kept.named(LIST_SALES)]

            spans = await eventually(ended, lambda found: len(found) == 2)
    assert [span.parent for span in spans] == [CALLER, CALLER]
