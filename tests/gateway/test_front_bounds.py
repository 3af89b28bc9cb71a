"""What one caller may take of the http2 front, and how much of it is left for the others."""

import asyncio
import gzip
import itertools
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import hpack
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import REGISTRY

from devstack.certificates import load_or_create
from gateway.front.load import TICK_S, TimedAdmission
from seckill.front import listener
from seckill.status import PUSHBACK_KEY, reason_of
from seckill.v1 import gateway_pb2
from tests.gateway.test_front_wire import GET_SALE, OK, PURCHASE, SERVICE, call, look, look_at
from tests.kits import wire
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, details, failure, open_rig
from tests.kits.waiting import eventually
from tests.kits.wire import Wire, connected, frame, message

INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED = 3, 4, 12
RESOURCE_EXHAUSTED = 8
GIVEN_UP = grpc.StatusCode.DEADLINE_EXCEEDED
FLOOD = 5_000
# A window that never closes.
WIDE = (2**30).to_bytes(4)
# Answers of many kilobytes each, more than the buffers of the kernel hold.
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNREAD_CALLS = 2_000
LIST_SALES = "/seckill.v1.GatewayService/ListSales"
BOMB = gzip.compress(bytes(62 * 1024 * 1024))


@asynccontextmanager
async def opened(
    directory: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> AsyncIterator[GatewayRig]:
    """A gateway that looks at its connections twenty times a second."""
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)
    async with AsyncExitStack() as stack:
        yield await open_rig(stack, directory, "http2", **changes)


def closed(reason: str) -> float:
    """Connections closed for a reason, so far."""
    name = "seckill_gateway_connections_closed_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


def refuse_if(patch: pytest.MonkeyPatch, refuses: Callable[[], bool]) -> None:
    """Have calls refused as if too many came."""
    for name in ("refuses", "refuses_all"):
        patch.setattr(TimedAdmission, name, lambda *_, **__: refuses())


async def until_more(count: Callable[[], float], than: float) -> None:
    """Wait for a metric to rise."""

    async def seen() -> float:
        return count()

    await eventually(seen, lambda value: value > than)


async def half_open(client: Wire, streams: range) -> None:
    """Begin calls, and send nothing of their requests."""
    await client.send(*(client.headers(stream, call(GET_SALE)) for stream in streams))


async def test_of_too_many_half_open_requests_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty where fifty are allowed: ten are ended, and honest callers notice nothing."""
    async with opened(tmp_path, monkeypatch, gateway_half_open_max=50) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as greedy, connected(rig.gateway.port) as honest:
            await half_open(greedy, range(1, 121, 2))
            replies = [await greedy.reply(stream) for stream in range(1, 21, 2)]
            assert {reply.grpc_status for reply in replies} == {DEADLINE_EXCEEDED}
            assert (await look(honest, 1, sku)).grpc_status == OK
            assert not greedy.replies[119].ended.is_set()
            await greedy.send(frame(wire.DATA, wire.END_STREAM, 119, look_at(sku)))
            assert (await greedy.reply(119)).grpc_status == OK


async def test_half_open_requests_are_no_work_that_others_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are refused by the wait for those whose requests are there, and for no others."""
    async with opened(tmp_path, monkeypatch) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as greedy, connected(rig.gateway.port) as honest:
            await half_open(greedy, range(1, 401, 2))
            # So slowly that, if they were busy with 200 calls, the handlers would be slow.
            for stream in range(1, 41, 2):
                assert (await look(honest, stream, sku)).grpc_status == OK
                await asyncio.sleep(TICK_S / 2)
            await greedy.send(frame(wire.DATA, wire.END_STREAM, 1, look_at(sku)))
            assert (await greedy.reply(1)).grpc_status == OK


async def test_a_request_that_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DEADLINE_EXCEEDED, and the stream is reset; batched methods and others alike."""
    async with opened(tmp_path, monkeypatch, gateway_request_timeout_s=0.2) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as client:
            await half_open(client, range(1, 2))
            await client.send(client.headers(3, call(LIST_SALES)))
            for stream in (1, 3):
                assert (await client.reply(stream)).grpc_status == DEADLINE_EXCEEDED
            assert (await look(client, 5, sku)).grpc_status == OK


async def test_silent_connections_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that never greets is hung up on; one that never calls is asked to end."""
    settings = {"gateway_handshake_timeout_s": 0.2, "gateway_idle_timeout_s": 0.2}
    async with opened(tmp_path, monkeypatch, **settings) as rig:
        async with connected(rig.gateway.port, greeting=False) as silent:
            await asyncio.wait_for(silent.closed.wait(), CALL_S)
        async with connected(rig.gateway.port) as idle:
            await asyncio.wait_for(idle.going_away.wait(), CALL_S)


async def test_there_is_room_for_so_many_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one too many is refused; when one without a call has gone there is room again."""
    async with opened(tmp_path, monkeypatch, gateway_connections_max=3) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(connected(rig.gateway.port))
            async with connected(rig.gateway.port) as late:
                await asyncio.wait_for(late.closed.wait(), CALL_S)

        async def served() -> int | None:
            async with connected(rig.gateway.port) as client:
                return (await look(client, 1, sku)).grpc_status

        await eventually(served, lambda status: status == OK)


FLOODS = {
    "ping": frame(wire.PING, 0, 0, b"12345678"),
    "settings": frame(wire.SETTINGS, 0, 0),
    "window": frame(wire.WINDOW_UPDATE, 0, 0, (1).to_bytes(4)),
    "priority": frame(2, 0, 1, bytes(5)),
    "unknown": frame(0x55, 0, 0, b"x"),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_that_mean_nothing_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Other callers of the gateway are served meanwhile."""
    async with opened(tmp_path, monkeypatch) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as flood, connected(rig.gateway.port) as honest:
            for _ in range(20):
                await flood.send(FLOODS[kind] * (FLOOD // 4))
                if flood.closed.is_set():
                    break
            assert (await look(honest, 1, sku)).grpc_status == OK
            await asyncio.wait_for(flood.closed.wait(), CALL_S)


async def test_a_ping_for_each_answer_is_no_flood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clients send that measure the round trip."""
    async with opened(tmp_path, monkeypatch) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as client:
            await client.send(frame(wire.WINDOW_UPDATE, 0, 0, WIDE))
            for stream in range(1, 2 * FLOOD // 2, 2):
                await client.send(FLOODS["ping"])
                assert (await look(client, stream, sku)).grpc_status == OK


@pytest.mark.parametrize("path", [PURCHASE, LIST_SALES])
async def test_a_bomb_is_not_inflated(rig: GatewayRig, front: str, path: str) -> None:
    """63 KB that stand for 62 MiB are refused; by the grpcio front all that is compressed."""
    if front == "grpcio":
        for ask in (
            rig.stub.Purchase(gateway_pb2.PurchaseRequest(), compression=grpc.Compression.Gzip),
            rig.stub.ListSales(
                gateway_pb2.GatewayServiceListSalesRequest(page_size=1),
                compression=grpc.Compression.Gzip,
            ),
        ):
            refused = await failure(ask)
            assert refused.code() is grpc.StatusCode.UNIMPLEMENTED
        return
    async with connected(rig.gateway.port) as client:
        bomb = message(BOMB, compressed=1)
        await client.send(client.headers(1, call(path, grpc_encoding="gzip")))
        pieces = [bomb[at : at + 16_000] for at in range(0, len(bomb), 16_000)]
        await client.send(*(frame(wire.DATA, 0, 1, piece) for piece in pieces))
        assert (await client.reply(1)).grpc_status == INVALID_ARGUMENT


async def test_compressed_requests_are_read(rig: GatewayRig, front: str) -> None:
    """gzip and deflate; of a batched method and of another one."""
    if front == "grpcio":
        pytest.skip("reads none")
    sku = rig.services.inventory.put(sale_terms())
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        found = await rig.stub.GetSale(
            gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), compression=compression
        )
        assert found.sale.terms.sku == sku
        page = await rig.stub.ListSales(
            gateway_pb2.GatewayServiceListSalesRequest(page_token="", page_size=50),
            compression=compression,
        )
        assert [sale.terms.sku for sale in page.sales] == [sku]


async def test_an_encoding_nobody_reads_is_named(rig: GatewayRig, front: str) -> None:
    """UNIMPLEMENTED, with those that are read."""
    if front == "grpcio":
        pytest.skip("gRPC says INTERNAL")
    async with connected(rig.gateway.port) as client:
        await client.send(client.headers(1, call(GET_SALE, grpc_encoding="snappy"), ends=True))
        reply = await client.reply(1)
        assert reply.grpc_status == UNIMPLEMENTED
        assert reply.headers["grpc-accept-encoding"] == "identity,gzip,deflate"


async def test_a_caller_who_takes_no_answers_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of zero bytes, and a socket that is never read."""
    settings = {"gateway_unread_timeout_s": 0.3, "gateway_streams_max": 100_000}
    async with opened(tmp_path, monkeypatch, **settings) as rig:
        sku = rig.services.inventory.put(sale_terms())
        no_window = wire.setting(wire.INITIAL_WINDOW_SIZE, 0)
        async with connected(rig.gateway.port, settings=no_window) as slow:
            await slow.send(
                slow.headers(1, call(GET_SALE)),
                frame(wire.DATA, wire.END_STREAM, 1, look_at(sku)),
            )
            await asyncio.wait_for(slow.closed.wait(), CALL_S)
        before = closed("unread")
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", rig.gateway.port))
        _, writer = await asyncio.open_connection(sock=deaf, limit=1)
        try:
            writer.write(wire.PREFACE + frame(wire.SETTINGS, 0, 0))
            writer.write(frame(wire.WINDOW_UPDATE, 0, 0, WIDE))
            block = hpack.Encoder().encode([(*field, True) for field in call(REFLECTION)])
            asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
            body = message(asked.SerializeToString())
            for stream in range(1, 2 * UNREAD_CALLS, 2):
                writer.write(
                    frame(wire.HEADERS, wire.END_HEADERS, stream, block)
                    + frame(wire.DATA, wire.END_STREAM, stream, body)
                )
            await until_more(lambda: closed("unread"), before)
        finally:
            writer.transport.abort()
        async with connected(rig.gateway.port) as honest:
            streams = itertools.count(1, 2)
            await eventually(
                lambda: look(honest, next(streams), sku), lambda reply: reply.grpc_status == OK
            )


async def test_a_header_block_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte of metadata ends its call or its connection, and no other."""
    async with opened(tmp_path, monkeypatch) as rig:
        sku = rig.services.inventory.put(sale_terms())
        async with connected(rig.gateway.port) as greedy, connected(rig.gateway.port) as honest:
            fields = [*call(GET_SALE), *((f"x-{n}", "v" * 1_000) for n in range(15))]
            await greedy.send(greedy.headers(1, fields))
            block = greedy.headers(3, [("x-more", "v" * 15_000)])[9:]
            await greedy.send(frame(wire.HEADERS, 0, 3, block))
            await greedy.send(*(frame(wire.CONTINUATION, 0, 3, block) for _ in range(60)))
            await greedy.until_closed()
            assert (await look(honest, 1, sku)).grpc_status == OK


async def test_stopping_says_goaway_and_ends_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once on every connection; a watch ends UNAVAILABLE with RetryInfo."""
    async with opened(tmp_path, monkeypatch) as rig:
        health = health_pb2_grpc.HealthStub(rig.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="live"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with connected(rig.gateway.port) as idle:
            async with asyncio.timeout(CALL_S):
                stopping = asyncio.create_task(rig.stop.aclose())
                await idle.going_away.wait()
                ended = await failure(watch.read())
                await stopping
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert details(ended)["RetryInfo"].retry_delay.ToMilliseconds() > 0


async def test_connections_age_and_no_call_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller goes on calling while its connections are replaced, three times."""
    async with opened(tmp_path, monkeypatch, connection_age_max_s=0.2) as rig:
        sku = rig.services.inventory.put(sale_terms())
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
        before = closed("age")
        async with asyncio.timeout(CALL_S):
            while closed("age") < before + 3:
                answers = await asyncio.gather(*(rig.stub.GetSale(request) for _ in range(10)))
                assert {answer.sale.terms.sku for answer in answers} == {sku}


async def test_a_watch_outlives_its_connection_by_the_grace_and_ends_with_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UNAVAILABLE and when to come back, and not a cut line."""
    settings = {"connection_age_max_s": 0.2, "connection_grace_s": 0.2}
    async with opened(tmp_path, monkeypatch, **settings) as rig:
        health = health_pb2_grpc.HealthStub(rig.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="live"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        ended = await failure(watch.read())
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert "RetryInfo" in details(ended)


@pytest.mark.parametrize("front", ["http2", "grpcio"])
async def test_tls_is_spoken_with_alpn(tmp_path: Path, front: str) -> None:
    """A real client over TLS; one that does not ask for HTTP/2 gets nowhere without JSON."""
    made = load_or_create(tmp_path / "tls")
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack,
            tmp_path,
            front,
            gateway_tls_certificate=str(made.server),
            gateway_tls_key=str(made.server_key),
            gateway_json="off",
        )
        sku = rig.services.inventory.put(sale_terms())
        credentials = grpc.ssl_channel_credentials(made.authority.read_bytes())
        target = f"localhost:{rig.gateway.port}"
        async with grpc.aio.secure_channel(target, credentials) as channel:
            get: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GET_SALE)
            assert sku.encode() in await get(look_at(sku)[5:], timeout=CALL_S)
        if front == "http2":
            context = ssl.create_default_context(cafile=str(made.authority))
            reader, writer = await asyncio.open_connection(
                "localhost", rig.gateway.port, ssl=context
            )
            assert await reader.read() == b""
            writer.close()


async def test_overload_is_told_apart_from_haste_and_says_when_to_come_back(
    rig: GatewayRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RetryInfo with jitter, the same for gRPC's own retries, and the call is counted."""
    sku = rig.services.inventory.put(sale_terms())
    request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)

    def refused() -> float:
        labels = {
            "grpc_type": "unary",
            "grpc_service": "seckill.v1.GatewayService",
            "grpc_method": "GetSale",
            "grpc_code": "ResourceExhausted",
        }
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels) or 0.0

    before = refused()
    refuse_if(monkeypatch, lambda: True)
    monkeypatch.setattr(TimedAdmission, "retry_wait_s", lambda *_: 0.4)
    told = set()
    for _ in range(40):
        error = await failure(rig.stub.GetSale(request))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error) == "OVERLOADED"
        delay_ms = details(error)["RetryInfo"].retry_delay.ToMilliseconds()
        metadata = dict(error.trailing_metadata() or ())
        assert metadata[PUSHBACK_KEY] == str(delay_ms)
        assert 400 <= delay_ms <= 800
        told.add(delay_ms)
    assert len(told) > 1
    await until_more(refused, before + 39)


@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
async def test_who_is_refused_is_read_again_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, encrypted: bool
) -> None:
    """What a flood sends meanwhile is one read; and nothing of it is lost."""
    monkeypatch.setattr(TimedAdmission, "rest_s", 1.0)
    loop = asyncio.get_running_loop()
    settings, context = {}, None
    if encrypted:
        made = load_or_create(tmp_path / "tls")
        settings = {
            "gateway_tls_certificate": str(made.server),
            "gateway_tls_key": str(made.server_key),
        }
        context = ssl.create_default_context(cafile=str(made.authority))
        context.set_alpn_protocols(["h2"])
    async with (
        opened(tmp_path, monkeypatch, **settings) as rig,
        connected(rig.gateway.port, tls=context) as refused,
        connected(rig.gateway.port, tls=context) as served,
    ):
        sku = rig.services.inventory.put(sale_terms())
        assert (await look(served, 1, sku)).grpc_status == OK
        with monkeypatch.context() as patch:
            refuse_if(patch, lambda: True)
            assert (await look(refused, 1, sku)).grpc_status == RESOURCE_EXHAUSTED
        refused_s = loop.time()
        rested = asyncio.create_task(look(refused, 3, sku))
        assert (await look(served, 3, sku)).grpc_status == OK
        assert (await rested).grpc_status == OK
        assert loop.time() - refused_s >= 0.3


async def test_calls_are_right_while_the_sieve_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of calls of a real client, refused or not as it falls: each has its own answer."""
    rng = random.Random(11)
    state = {"refuses": False}
    sieved = "seckill_gateway_sieved_total"
    before, ended = REGISTRY.get_sample_value(sieved) or 0.0, closed("protocol")
    async with opened(tmp_path, monkeypatch, gateway_rate_user=0) as rig:
        skus = [rig.services.inventory.put(sale_terms()) for _ in range(50)]
        for sku in skus:
            await rig.stub.GetSale(
                gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S
            )
        refuse_if(monkeypatch, lambda: state["refuses"])
        answers = {"served": 0, "OVERLOADED": 0}

        async def caller() -> None:
            for _ in range(60):
                state["refuses"] = rng.random() < 0.5
                sku = rng.choice(skus)
                request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
                try:
                    answer = await rig.stub.GetSale(
                        request, metadata=(("x-filler", "v" * rng.randrange(600)),), timeout=60
                    )
                    assert answer.sale.terms.sku == sku
                    answers["served"] += 1
                except grpc.aio.AioRpcError as error:
                    answers[reason_of(error) or ""] += 1
                if rng.random() < 0.05:
                    page = await rig.stub.ListSales(gateway_pb2.GatewayServiceListSalesRequest())
                    assert page.sales

        await asyncio.gather(*(caller() for _ in range(50)))
        assert answers["served"] > 500
        assert answers["OVERLOADED"] > 500
        assert (REGISTRY.get_sample_value(sieved) or 0.0) > before
        assert closed("protocol") == ended
        state["refuses"] = False
        async with connected(rig.gateway.port) as client:
            assert (await look(client, 1, skus[0])).grpc_status == OK


async def test_callers_who_give_up_keep_their_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand deadlines pass on one channel, and its next call is answered on it."""
    async with opened(
        tmp_path, monkeypatch, gateway_rate_user=0, gateway_inventory_timeout_s=600
    ) as rig:
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms())
        token = await rig.token(sku, "buyer")
        before = closed("protocol"), closed("flood")
        inventory.open.clear()
        for _ in range(4):
            late = await asyncio.gather(
                *(
                    failure(rig.buy(sku, "buyer", token=token, request_id="r", timeout_s=0.1))
                    for _ in range(500)
                )
            )
            codes = {error.code() for error in late}
            assert codes <= {GIVEN_UP, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert GIVEN_UP in codes
        inventory.open.set()
        await rig.buy(sku, "buyer", token=token, request_id="r")
        assert (closed("protocol"), closed("flood")) == before
