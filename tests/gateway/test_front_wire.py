"""What both fronts make of clients that break the rules of HTTP/2 and gRPC, or keep them slowly.

Whatever one of them does, the others are served, and nothing of it stays behind.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from prometheus_client import REGISTRY

from seckill.status import reason_of
from seckill.v1 import gateway_pb2, inventory_pb2
from tests.kits import wire
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, open_rig
from tests.kits.waiting import eventually
from tests.kits.wire import Reply, Wire, connected, frame, message

SERVICE = "seckill.v1.GatewayService"
GET_SALE = f"/{SERVICE}/GetSale"
PURCHASE = f"/{SERVICE}/Purchase"
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
OK = 0
INVALID_ARGUMENT = 3
UNIMPLEMENTED = 12
# Streams that one attack opens; each front allows fewer at a time.
RESETS = 4_000
# Calls under way in the whole gateway, where it has little room.
ROOM = 10
CONNECTIONS = 2_000


def call(path: str, **further: str) -> list[tuple[str, str]]:
    """The header fields of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *((name.replace("_", "-"), value) for name, value in further.items()),
    ]


def look_at(sku: str) -> bytes:
    """A message that asks for a sale."""
    return message(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku).SerializeToString())


async def look(client: Wire, stream: int, sku: str) -> Reply:
    """Ask for a sale as one should."""
    await client.send(
        client.headers(stream, call(GET_SALE)),
        frame(wire.DATA, wire.END_STREAM, stream, look_at(sku)),
    )
    return await client.reply(stream)


async def refused(client: Wire, stream: int, front: str) -> None:
    """Wait for the fault of a call that has no whole message.

    From grpc.aio it never comes: it leaves such a call alone until its caller does the same.
    """
    if front == "http2":
        assert (await client.reply(stream)).grpc_status != OK


async def test_a_call_that_comes_in_pieces_is_answered_when_it_is_whole(rig: GatewayRig) -> None:
    """Header block, prefix and message byte by byte; the end of the stream at last."""
    sku = rig.services.inventory.put(sale_terms())
    async with connected(rig.gateway.port) as client:
        whole = client.headers(1, call(GET_SALE))
        for byte in (whole[at : at + 1] for at in range(len(whole))):
            await client.send(byte)
        for place, value in enumerate(look_at(sku)):
            await client.send(frame(wire.DATA, 0, 1, bytes([value])))
            if place == 3:
                # Another caller on the same connection is not kept waiting.
                assert (await look(client, 3, sku)).grpc_status == OK
        assert not client.replies[1].ended.is_set()
        await client.send(frame(wire.DATA, wire.END_STREAM, 1))
        reply = await client.reply(1)
        assert reply.grpc_status == OK
        answer = gateway_pb2.GatewayServiceGetSaleResponse.FromString(reply.data[5:])
        assert answer.sale.terms.sku == sku


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0",
        message(b"\x0a\x01a", length=99),
        message(b"\x0a\x01a", compressed=1),
        message(b"\x0a\x01a", compressed=7),
        message(b"x", length=0xFFFFFFFF),
    ],
    ids=["none", "prefix", "truncated", "compressed", "flag", "huge"],
)
async def test_what_is_no_message_fails_its_call_alone(
    rig: GatewayRig, front: str, body: bytes
) -> None:
    """A half-closed stream without a whole message has a fault; the next call has none."""
    sku = rig.services.inventory.put(sale_terms())
    async with connected(rig.gateway.port) as client:
        await client.send(
            client.headers(1, call(GET_SALE)), frame(wire.DATA, wire.END_STREAM, 1, body)
        )
        await refused(client, 1, front)
        assert not client.closed.is_set()
        assert (await look(client, 3, sku)).grpc_status == OK
        assert client.replies[1].grpc_status != OK


async def test_a_call_without_a_body_or_with_trailers_of_its_own_ends(
    rig: GatewayRig, front: str
) -> None:
    """END_STREAM with the header block, and a second header block in the place of the body."""
    sku = rig.services.inventory.put(sale_terms())
    async with connected(rig.gateway.port) as client:
        await client.send(client.headers(1, call(GET_SALE), ends=True))
        await refused(client, 1, front)
        await client.send(
            client.headers(3, call(GET_SALE)),
            frame(wire.DATA, 0, 3, look_at(sku)),
            client.headers(3, [("checksum", "none")], ends=True),
        )
        assert (await client.reply(3)).ended.is_set()
        assert (await look(client, 5, sku)).grpc_status == OK
        assert client.replies[1].grpc_status != OK


BROKEN = {
    "stream 0": frame(wire.DATA, 0, 0, b"x"),
    "even": frame(wire.HEADERS, wire.END_HEADERS, 2, b"\x82"),
    "hpack": frame(wire.HEADERS, wire.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
    "continuation": frame(wire.CONTINUATION, wire.END_HEADERS, 1, b"\x82"),
    "settings": frame(wire.SETTINGS, 0, 0, b"odd"),
    "window": frame(wire.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
    "ping": frame(wire.PING, 0, 0, b"short"),
    "size": wire.FRAME.pack(0xFFFF, 0xFF, wire.DATA, 0, 1),
}
# What gRPC's own server overlooks.
OVERLOOKED = {("grpcio", "stream 0"), ("grpcio", "even")}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_frame_that_breaks_the_protocol_ends_its_connection_alone(
    rig: GatewayRig, front: str, how: str
) -> None:
    """GOAWAY or an end; callers on other connections notice nothing."""
    sku = rig.services.inventory.put(sale_terms())
    async with connected(rig.gateway.port) as broken, connected(rig.gateway.port) as neighbour:
        assert (await look(neighbour, 1, sku)).grpc_status == OK
        await broken.send(BROKEN[how])
        if (front, how) in OVERLOOKED:
            assert (await look(broken, 3, sku)).grpc_status == OK
        else:
            await broken.until_closed()
        assert (await look(neighbour, 3, sku)).grpc_status == OK


async def test_what_is_not_http_is_hung_up_on(rig: GatewayRig) -> None:
    """Half a preface of HTTP/2, and noise."""
    for sent in (b"PRI * HTTP/1.1\r\nhost: gateway\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 512):
        async with connected(rig.gateway.port, greeting=False) as stranger:
            await stranger.send(sent)
            await stranger.until_closed()


async def test_calls_that_are_not_grpc_are_refused(rig: GatewayRig, front: str) -> None:
    """Another content type, another method, an unknown encoding, a path that is not served."""
    sku = rig.services.inventory.put(sale_terms())
    json = [
        (name, "application/json" if name == "content-type" else value)
        for name, value in call(GET_SALE)
    ]
    get = [(name, "GET" if name == ":method" else value) for name, value in call(GET_SALE)]
    async with connected(rig.gateway.port) as client:
        for stream, fields in enumerate((json, get)):
            await client.send(client.headers(2 * stream + 1, fields, ends=True))
            await refused(client, 2 * stream + 1, front)
        unknown = [call(GET_SALE, grpc_encoding="snappy"), call("/no.such.Service/Method")]
        for stream, fields in zip((5, 7), unknown, strict=True):
            await client.send(
                client.headers(stream, fields),
                frame(wire.DATA, wire.END_STREAM, stream, message(b"", compressed=1)),
            )
            reply = await client.reply(stream)
            assert reply.grpc_status not in {OK, None}
        assert reply.grpc_status == UNIMPLEMENTED
        assert (await look(client, 9, sku)).grpc_status == OK
        assert OK not in {client.replies[stream].grpc_status for stream in (1, 3)}


async def test_a_deadline_that_has_passed_costs_nothing(rig: GatewayRig, front: str) -> None:
    """A nanosecond: the caller's identity is not even looked at."""
    sku = rig.services.inventory.put(sale_terms())
    ((name, value),) = rig.identity("buyer")
    request = gateway_pb2.PurchaseRequest(sku=sku, purchase_token="AAAA", request_id="r")
    verified = REGISTRY.get_sample_value("seckill_jwt_verifications_total")
    async with connected(rig.gateway.port) as client:
        await client.send(
            client.headers(1, [*call(PURCHASE, grpc_timeout="1n"), (name, value)]),
            frame(wire.DATA, wire.END_STREAM, 1, message(request.SerializeToString())),
        )
        assert (await client.reply(1)).grpc_status != OK
        assert (await look(client, 3, sku)).grpc_status == OK
    if front == "http2":
        # gRPC's own server makes a millisecond of it, in which much can be done.
        assert REGISTRY.get_sample_value("seckill_jwt_verifications_total") == verified


async def test_rapid_resets_leave_nothing_behind(front: str, tmp_path: Path) -> None:
    """Thousands of attempts that are cancelled as they are sent, and some that have got further."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack,
            tmp_path,
            front,
            gateway_calls_max=ROOM,
            gateway_rate_user=0,
            # Nothing is given up because it took too long.
            gateway_inventory_timeout_s=600,
        )
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms())
        token, (identity,) = await rig.token(sku, "buyer"), rig.identity("buyer")
        request = gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id="r")
        body = message(request.SerializeToString())

        def attempt(stream: int) -> bytes:
            fields = call(PURCHASE, authorization=identity[1])
            return client.headers(stream, fields) + frame(wire.DATA, wire.END_STREAM, stream, body)

        def reset(stream: int) -> bytes:
            return frame(wire.RST_STREAM, 0, stream, wire.CANCEL.to_bytes(4))

        async def refusal() -> str | None:
            request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
            try:
                await rig.stub.GetSale(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                return reason_of(error)
            return None

        inventory.open.clear()
        async with connected(rig.gateway.port) as client:
            for stream in range(1, 2 * RESETS, 2):
                await client.send(attempt(stream), reset(stream))
        await eventually(refusal, lambda reason: reason is None)
        async with connected(rig.gateway.port) as client:
            streams = range(1, 2 * ROOM, 2)
            await client.send(*map(attempt, streams))
            await eventually(refusal, lambda reason: reason == "OVERLOADED")
            await client.send(*map(reset, streams))
            # Inventory still holds the attempts: no caller waits for them any more.
            await eventually(refusal, lambda reason: reason is None)
        inventory.open.set()
        assert (await rig.buy(sku, "buyer", token=token, request_id="r")).outcome == RESERVED


async def test_a_caller_that_does_not_read_its_answers_delays_no_other(rig: GatewayRig) -> None:
    """A window of zero bytes: its answers wait, others' do not; they come once it reads."""
    sku = rig.services.inventory.put(sale_terms())
    closed_window = wire.setting(wire.INITIAL_WINDOW_SIZE, 0)
    async with connected(rig.gateway.port, settings=closed_window) as slow:
        streams = range(1, 101, 2)
        for stream in streams:
            await slow.send(
                slow.headers(stream, call(GET_SALE)),
                frame(wire.DATA, wire.END_STREAM, stream, look_at(sku)),
            )
        async with connected(rig.gateway.port) as neighbour:
            for stream in streams:
                assert (await look(neighbour, stream, sku)).grpc_status == OK
        assert not any(slow.replies[stream].data for stream in streams)
        opened = (65_535).to_bytes(4)
        await slow.send(*(frame(wire.WINDOW_UPDATE, 0, stream, opened) for stream in streams))
        replies = [await slow.reply(stream) for stream in streams]
        assert {reply.grpc_status for reply in replies} == {OK}
        assert all(reply.data for reply in replies)


async def test_thousands_of_connections_are_held_and_served(rig: GatewayRig) -> None:
    """Two thousand stay open; calls on every twentieth, and on a new one, are answered."""
    sku = rig.services.inventory.put(sale_terms(units=1))
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(rig.gateway.port)) for _ in range(CONNECTIONS)
        ]
        replies = await asyncio.gather(*(look(client, 1, sku) for client in clients[::20]))
        assert [reply.grpc_status for reply in replies] == [OK] * len(clients[::20])
        assert (await rig.buy(sku, "buyer")).outcome == RESERVED
        assert not any(client.closed.is_set() for client in clients)
