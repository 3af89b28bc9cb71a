"""What Envoy keeps from the gateway, each refusal in the form of the gateway's own."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack.ports import LOOPBACK
from seckill.status import reason_of
from seckill.v1 import gateway_pb2, gateway_pb2_grpc
from tests.kits.actions import CALL_S
from tests.kits.edge import ENVOY, SERVICE, Edge
from tests.kits.edge_front import list_sales, running_edge, until_closed
from tests.kits.edge_upstream import Upstream, running_upstream
from tests.kits.waiting import eventually

LIMITS = {
    "SECKILL_EDGE_BODY_BYTES_MAX": "2048",
    "SECKILL_EDGE_HEADERS_TIMEOUT_S": "1",
    "SECKILL_EDGE_REQUEST_TIMEOUT_S": "1",
    "SECKILL_EDGE_CALL_TIMEOUT_S": "1",
    "SECKILL_EDGE_IDLE_TIMEOUT_S": "2",
    "SECKILL_DRAIN_TIMEOUT_S": "1",
    "SECKILL_EDGE_CORS_ORIGINS": "https://shop.example",
    "SECKILL_EDGE_ACCESS_LOG": "all",
}


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    """A gateway that remembers what reached it."""
    async with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
async def edge(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """An edge with tight limits and a page to serve."""
    directory: Path = tmp_path_factory.mktemp("limits")
    web = directory / "web"
    (web / "styles").mkdir(parents=True)
    (web / "index.html").write_text("<h1>Sale</h1>" + " " * 2_000)
    (web / "styles" / "page.css").write_text("h1 { color: red }")
    (web / ".hidden").write_text("no")
    settings = {**LIMITS, "SECKILL_EDGE_WEB_DIRECTORY": str(web)}
    async with running_edge(upstream, directory, settings) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "reason"),
    [
        ("GET", "/v1/nothing", {}, None, 404, "NOT_IMPLEMENTED"),
        ("GET", "/nothing.html", {}, None, 404, "NOT_IMPLEMENTED"),
        ("GET", "/.hidden", {}, None, 404, "NOT_IMPLEMENTED"),
        ("POST", f"/{SERVICE}/Nothing", {}, {}, 404, "NOT_IMPLEMENTED"),
        ("POST", "/grpc.health.v1.Health/Check", {}, {}, 404, "NOT_IMPLEMENTED"),
        ("POST", "/seckill.v1.InventoryService/ListSales", {}, {}, 404, "NOT_IMPLEMENTED"),
        ("GET", "/v1/sales?nothing=1", {}, None, 400, "INVALID_FIELD"),
        ("POST", f"/{SERVICE}/ListSales", {}, b"{not json", 400, "INVALID_FIELD"),
        ("POST", "/v1/sales/phone:purchase", {}, {"sku": "other"}, 400, "INVALID_FIELD"),
        ("POST", f"/{SERVICE}/ListSales", {}, {"page_token": "x" * 2048}, 413, "INVALID_FIELD"),
        ("GET", "/v1/sales", {"under_score": "x"}, None, 400, "INVALID_FIELD"),
        ("GET", "/v1%2Fsales", {}, None, 400, "INVALID_FIELD"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_as_json(
    edge: Edge,
    upstream: Upstream,
    method: str,
    path: str,
    headers: dict[str, str],
    body: object,
    status: int,
    reason: str,
) -> None:
    """A proper HTTP status, google.rpc.Status with its ErrorInfo, and no call of the gateway."""
    before = len(upstream.calls)
    answer = await edge.call(method, path, body, headers=headers)
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] > 0
    assert answer.json["message"]
    assert len(upstream.calls) == before


async def test_large_messages_are_refused_in_grpc_with_the_same_details(edge: Edge) -> None:
    """Never UNKNOWN: INVALID_ARGUMENT with INVALID_FIELD, as the gateway would say."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await list_sales(edge, "x" * 300_000)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "INVALID_FIELD"


async def test_only_the_gateways_service_is_there_in_grpc(edge: Edge) -> None:
    """Other services behind the same port are not for the public."""
    async with edge.channel() as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(b"", timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_headers_are_bounded_in_size_and_number(edge: Edge, upstream: Upstream) -> None:
    """431, and the next connection is served."""
    before = len(upstream.calls)
    huge = await until_closed(
        edge, b"GET /v1/sales HTTP/1.1\r\nhost: x\r\na: " + b"x" * 40_000 + b"\r\n\r\n"
    )
    many = b"".join(b"a%d: x\r\n" % number for number in range(200))
    numerous = await until_closed(edge, b"GET /v1/sales HTTP/1.1\r\nhost: x\r\n" + many + b"\r\n")
    for answer in (huge, numerous):
        assert answer.startswith(b"HTTP/1.1 431 ")
    assert len(upstream.calls) == before
    assert (await edge.call("GET", "/v1/sales")).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /v1/sales HTTP/1.1\r\nhost: x\r\nslow:",
        b"POST /v1/sales/phone:purchase HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n",
    ],
    ids=["silent", "headers", "body", "preface"],
)
async def test_a_slow_client_is_cut_off(edge: Edge, upstream: Upstream, sent: bytes) -> None:
    """A client that does not finish its request is disconnected, and the gateway gets nothing."""
    before = len(upstream.calls)
    answer = await until_closed(edge, sent)
    # HTTP/1.1 says 408 if it has seen the request line, HTTP/2 says GOAWAY.
    assert b" 200 " not in answer
    assert len(upstream.calls) == before


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def test_calls_that_are_opened_only_to_be_reset_end_the_connection(edge: Edge) -> None:
    """Rapid reset: the attacker's connection ends, other clients are served."""
    # GET http / and an authority, from HPACK's static table; HEADERS, then RST_STREAM (CANCEL).
    headers = b"\x82\x86\x84\x41\x01x"
    resets = b"".join(
        h2_frame(1, 0x5, stream, headers) + h2_frame(3, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 20_000, 2)
    )
    attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"") + resets
    attacking = asyncio.create_task(until_closed(edge, attack))
    assert (await edge.call("GET", "/v1/sales")).status == 200
    with suppress(ConnectionError):
        await attacking
    assert "downstream_rq_rx_reset" in await asyncio.to_thread(edge.metrics)


async def test_a_gateway_that_hangs_is_a_deadline_in_both_forms(edge: Edge) -> None:
    """504 with DEADLINE_EXCEEDED in JSON; gRPC callers' own longer deadline is cut to ours."""
    answer = await edge.call("GET", "/v1/sales/phone")
    assert (answer.status, answer.reason) == (504, "DEADLINE_EXCEEDED")
    async with edge.channel() as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(), timeout=CALL_S)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_gateway_is_told_the_address_that_envoy_saw(
    edge: Edge, upstream: Upstream
) -> None:
    """A forged x-forwarded-for is left of the real address; ids and hints are Envoy's own."""
    forged = {
        "x-forwarded-for": "203.0.113.7",
        "x-request-id": "forged",
        "x-envoy-original-path": "/forged",
        "x-forwarded-client-cert": "forged",
        "seckill-sku": "phone",
    }
    answer = await edge.call("GET", "/v1/sales", headers=forged)
    seen = upstream.calls[-1]
    # (For a peer on loopback Envoy takes the machine's own address.)
    assert seen["x-forwarded-for"].split(",")[0] == "203.0.113.7"
    assert seen["x-forwarded-for"].split(",")[-1] != "203.0.113.7"
    assert seen["x-request-id"] == answer.headers["x-request-id"]
    assert "forged" not in json.dumps(seen)
    # The path alone names what is asked for.
    assert "seckill-sku" not in seen


async def test_pages_of_allowed_origins_may_call_and_others_may_not(edge: Edge) -> None:
    """The preflight names methods and headers for the one origin, nothing for another."""
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    path = "/v1/sales/phone:purchase"
    ours = await edge.call("OPTIONS", path, headers={"origin": "https://shop.example", **ask})
    assert ours.status == 200
    assert ours.headers["access-control-allow-origin"] == "https://shop.example"
    assert "authorization" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in ours.headers
    other = await edge.call("OPTIONS", path, headers={"origin": "https://evil.example", **ask})
    assert "access-control-allow-origin" not in other.headers
    answered = await edge.call("GET", "/v1/sales", headers={"origin": "https://shop.example"})
    assert "retry-after" in answered.headers["access-control-expose-headers"]


async def test_static_files_are_served_compressed_and_not_sent_twice(edge: Edge) -> None:
    """The page and its parts; 304 for a browser that has them."""
    page = await edge.call("GET", "/", headers={"accept-encoding": "gzip"})
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-encoding"] == "gzip"
    assert len(page.body) < 1_000
    style = await edge.call("GET", "/styles/page.css")
    assert style.body == b"h1 { color: red }"
    assert style.headers["x-content-type-options"] == "nosniff"
    again = await edge.call(
        "GET", "/styles/page.css", headers={"if-none-match": style.headers["etag"]}
    )
    assert (again.status, again.body) == (304, b"")


async def test_only_readiness_and_metrics_of_envoy_can_be_asked_for(edge: Edge) -> None:
    """Neither port gives its administration away."""
    assert "envoy_http_downstream_rq_total" in await asyncio.to_thread(edge.metrics)
    reader, writer = await asyncio.open_connection(LOOPBACK, edge.ports.stats)
    writer.write(b"GET /config_dump HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    assert (await edge.call("GET", "/config_dump")).status == 404


async def test_the_log_has_the_call_and_neither_token_nor_query(edge: Edge) -> None:
    """A canary in the header and one in the query are in no line."""
    headers = {"authorization": "Bearer canary-token"}
    answer = await edge.call("GET", "/v1/sales?page_token=canary-query", headers=headers)
    assert answer.json["nextPageToken"] == "canary-query"
    request_id = answer.headers["x-request-id"]
    # Stopping writes what is still in memory.
    await asyncio.to_thread(edge.kill_softly, ENVOY)
    log = edge.log(ENVOY)
    await asyncio.to_thread(edge.start, ENVOY)
    assert request_id in log
    assert "canary" not in log


async def test_a_changed_page_is_served_after_a_moment(edge: Edge) -> None:
    """The agent sees the file change; nothing is restarted."""
    page = Path(edge.settings["SECKILL_EDGE_WEB_DIRECTORY"]) / "styles" / "page.css"
    page.write_text("h1 { color: green }")

    async def style() -> bytes:
        return (await edge.call("GET", "/styles/page.css")).body

    await eventually(style, lambda seen: seen == b"h1 { color: green }")
