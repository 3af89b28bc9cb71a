"""The edge's log of faults has faults, and neither callers' mistakes nor what sales expect."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kits.actions import CALL_S
from tests.kits.edge import ENVOY
from tests.kits.edge_front import list_sales, running_edge
from tests.kits.edge_upstream import running_upstream

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_the_log_of_faults_has_faults_only(tmp_path: Path) -> None:
    """Answers, preflights and mistakes leave no line; a gateway that is gone does, with its ids."""
    settings = {
        "SECKILL_EDGE_CORS_ORIGINS": "https://shop.example",
        "SECKILL_EDGE_SLOW_S": "60",
    }
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running_upstream())
        async with running_edge(upstream, tmp_path, settings) as edge:
            assert (await edge.call("GET", "/v1/sales")).status == 200
            preflight = {
                "origin": "https://shop.example",
                "access-control-request-method": "POST",
            }
            assert (await edge.call("OPTIONS", "/v1/sales", headers=preflight)).status == 200
            assert (await edge.call("GET", "/v1/nothing")).status == 404
            assert (await edge.call("GET", "/v1/sales?nothing=1")).status == 400
            assert (await edge.call("PUT", "/v1/sales", {})).status == 405
            await list_sales(edge, "")
            async with edge.channel() as channel:
                nothing: Any = channel.unary_unary("/seckill.v1.GatewayService/Nothing")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await nothing(b"", timeout=CALL_S)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                await stack.aclose()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await list_sales(edge, "")
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            gone = await edge.call("GET", "/v1/sales", headers={"traceparent": TRACE})
            assert gone.status == 503
            # Envoy writes what it holds back as it ends.
            edge.kill_softly(ENVOY)
            lines = [json.loads(line) for line in edge.log(ENVOY).splitlines() if '"call"' in line]
    by_grpc, by_json = lines
    assert_named(by_grpc, path="/seckill.v1.GatewayService/ListSales", grpc_status="Unavailable")
    assert_named(by_json, path="/v1/sales", status=503, traceparent=TRACE)


def assert_named(line: dict[str, Any], **fields: object) -> None:
    """The line has these, and the id that Envoy gave the call."""
    assert {name: line[name] for name in fields} == fields
    assert line["request_id"]
