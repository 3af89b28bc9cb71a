"""What one caller may take over HTTP/1.1, and how its connections begin and end."""

import asyncio
import random
import re
import socket
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from devstack.certificates import load_or_create
from devstack.ports import LOOPBACK
from gateway.front.load import TimedAdmission
from seckill.v1 import order_pb2
from tests.gateway.test_front_bounds import closed, opened, until_more
from tests.gateway.test_front_wire import OK, look
from tests.kits.factories import sale_terms
from tests.kits.gateway import CALL_S, GatewayRig, open_rig
from tests.kits.http import Version, call, until_closed
from tests.kits.waiting import eventually
from tests.kits.wire import connected

POST = b"POST /v1/sales/x:purchase HTTP/1.1\r\nhost: x\r\n"
LOOK = b"GET /v1/sales/%s HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
async def front() -> str:
    """Only the http2 front speaks JSON."""
    return "http2"


async def answers(rig: GatewayRig, sent: bytes, count: int) -> bytes:
    """Return what comes back on a connection until it has `count` answers."""
    reader, writer = await asyncio.open_connection(LOOPBACK, rig.gateway.port)
    writer.write(sent)
    seen = b""
    async with asyncio.timeout(CALL_S):
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            seen += head + await reader.readexactly(int(length[1]))
    writer.close()
    return seen


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET /v1/sales HTTP/1.1\r\nhost: x\r\nslow:", b"408"),
        (b"GET /v1/sal", b"408"),
        (b"POST /v1/sales/x:purchase HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{", b"408"),
        (
            POST + b"transfer-encoding: chunked\r\n\r\n1\r\n{",
            b"408",
        ),
    ],
    ids=["silent", "headers", "request line", "body", "chunks"],
)
async def test_a_slow_sender_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: bytes
) -> None:
    """It is told so if it has sent part of a request, and the connection ends."""
    settings = {"gateway_handshake_timeout_s": 0.3, "gateway_request_timeout_s": 0.3}
    async with opened(tmp_path, monkeypatch, **settings) as rig:
        answer = await until_closed(rig.gateway.port, sent)
        assert answer.startswith(b"HTTP/1.1 " + status if status else b"")
        assert bool(answer) is bool(status)
        assert b"connection: close" in answer or not status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v1/sales HTTP/1.1\r\nhost: x\r\na: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /v1/sales HTTP/1.1\r\nhost: x\r\na: " + b"x" * 40_000, b"431"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
        (b"GET /v1/sales HTTP/1.1\r\nhost: x\r\n" + b"a: x\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /v1/sales HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /v1/sales HTTP/9.9\r\nhost: x\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\xff", b"400"),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", b"413"),
        (
            b"POST /v1/sales/x:purchase HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 3,
            b"413",
        ),
        # Two lengths, of which a proxy before us may have trusted the other one.
        (
            POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"400",
        ),
        (
            b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            b"400",
        ),
        (b"GET /v1/sales HTTP/1.1\r\nhost : x\r\n\r\n", b"400"),
    ],
)
async def test_what_is_too_large_or_ambiguous_is_the_last_request(
    rig: GatewayRig, sent: bytes, status: bytes
) -> None:
    """It is answered in JSON, and nothing that follows on the connection is trusted."""
    sku = rig.services.inventory.put(sale_terms())
    answer = await until_closed(rig.gateway.port, sent + LOOK % sku.encode())
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"INVALID_FIELD" in answer
    assert (await call(rig.gateway.port, "GET", f"/v1/sales/{sku}")).status == 200


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(
    rig: GatewayRig,
) -> None:
    """A later answer waits for an earlier one, which asks another service."""
    skus = [rig.services.inventory.put(sale_terms()).encode() for _ in range(4)]
    sent = b"GET /v1/sales?page_size=1 HTTP/1.1\r\nhost: x\r\n\r\n"
    sent += b"".join(LOOK % sku for sku in skus)
    seen = await answers(rig, sent, 5)
    places = [seen.rindex(b'"sku":"%s"' % sku) for sku in skus]
    assert seen.index(b"nextPageToken") < places[0]
    assert places == sorted(places)
    assert b"connection: close" not in seen


async def test_one_connection_gets_so_many_calls_at_once(rig: GatewayRig) -> None:
    """Hundreds of requests in one piece: seventeen are answered, then the connection ends."""
    sku = rig.services.inventory.put(sale_terms()).encode()
    seen = await until_closed(rig.gateway.port, LOOK % sku * 300)
    assert seen.count(b"HTTP/1.1 200") == 17
    assert seen.count(b"connection: close") == 1


async def test_head_has_no_body_and_older_clients_get_one_answer(rig: GatewayRig) -> None:
    """HEAD is 405; HTTP/1.0 is served, and its connection ends."""
    sku = rig.services.inventory.put(sale_terms()).encode()
    sent = b"HEAD /v1/sales HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    head = await until_closed(rig.gateway.port, sent)
    assert head.startswith(b"HTTP/1.1 405")
    assert head.endswith(b"\r\n\r\n")
    old = await until_closed(rig.gateway.port, b"GET /v1/sales/%s HTTP/1.0\r\n\r\n" % sku)
    assert old.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in old


async def test_a_caller_who_waits_for_leave_gets_it(rig: GatewayRig) -> None:
    """Expect: 100-continue, for a request that is let in; none for one that is not."""
    sku = rig.services.inventory.put(sale_terms()).encode()
    request = b"POST /v1/sales/%s:%s HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"
    request += b"connection: close\r\nexpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection(LOOPBACK, rig.gateway.port)
    writer.write(request % (sku, b"purchase"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CALL_S) == (
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    writer.write(b"{}")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await until_closed(rig.gateway.port, request % (sku, b"nothing") + b"{}")).startswith(
        b"HTTP/1.1 404"
    )


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
async def test_overload_is_said_before_the_body_is_read(
    rig: GatewayRig, monkeypatch: pytest.MonkeyPatch, version: Version
) -> None:
    """429 with OVERLOADED and when to come back; the connection is kept."""
    sku = rig.services.inventory.put(sale_terms())
    monkeypatch.setattr(TimedAdmission, "refuses", lambda *_, **__: True)
    monkeypatch.setattr(TimedAdmission, "retry_wait_s", lambda *_: 1.2)
    body = {"request_id": "r"}
    answer = await call(
        rig.gateway.port, "POST", f"/v1/sales/{sku}:purchase", body, version=version
    )
    assert (answer.status, answer.reason) == (429, "OVERLOADED")
    assert answer.headers["retry-after"] in {"2", "3"}
    assert "connection" not in answer.headers


async def test_idle_and_old_connections_end_between_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed when idle; at its age the next answer says that it is the last."""
    async with opened(tmp_path, monkeypatch, gateway_idle_timeout_s=0.2) as rig:
        sku = rig.services.inventory.put(sale_terms()).encode()
        before = closed("idle")
        seen = await until_closed(rig.gateway.port, LOOK % sku)
        assert seen.startswith(b"HTTP/1.1 200")
        assert closed("idle") == before + 1


async def test_a_watch_that_is_cut_says_so_in_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the connection's age: a pending order, then google.rpc.Status with RetryInfo."""
    settings = {"connection_age_max_s": 0.2, "connection_grace_s": 0.2}
    order_no = "0" * 26
    async with opened(tmp_path, monkeypatch, **settings) as rig:
        orders = rig.services.orders
        orders.orders[order_no] = order_pb2.Order(order_no=order_no, user_id="buyer")
        monkeypatch.setattr(orders, "hold_watches", True)
        versions: list[Version] = ["http/1.1", "h2"]
        for version in versions:
            answer = await call(
                rig.gateway.port,
                "GET",
                f"/v1/orders/{order_no}:watch",
                headers=dict(rig.identity("buyer")),
                version=version,
            )
            first, last = answer.body.splitlines()
            assert order_no.encode() in first
            assert b"RetryInfo" in last
            assert b'"code":14' in last


async def test_a_watch_whose_caller_leaves_is_ended(
    rig: GatewayRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order service is not asked on for a caller who has hung up."""
    order_no, orders = "0" * 26, rig.services.orders
    orders.orders[order_no] = order_pb2.Order(order_no=order_no, user_id="buyer")
    monkeypatch.setattr(orders, "hold_watches", True)
    ((_, identity),) = rig.identity("buyer")
    reader, writer = await asyncio.open_connection(LOOPBACK, rig.gateway.port)
    writer.write(
        f"GET /v1/orders/{order_no}:watch HTTP/1.1\r\nhost: x\r\n"
        f"authorization: {identity}\r\n\r\n".encode()
    )
    await asyncio.wait_for(reader.readuntil(order_no.encode()), CALL_S)
    assert orders.watches == 1
    writer.close()

    async def watches() -> int:
        return orders.watches

    await eventually(watches, lambda count: count == 0)


async def test_a_stopping_gateway_answers_what_it_has(tmp_path: Path) -> None:
    """An attempt that inventory still holds is answered, and its connection ends with that."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, "http2")
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms())
        token = await rig.token(sku, "buyer")
        inventory.open.clear()
        attempt = asyncio.create_task(
            call(
                rig.gateway.port,
                "POST",
                f"/v1/sales/{sku}:purchase",
                {"purchase_token": token, "request_id": "r"},
                headers=dict(rig.identity("buyer")),
            )
        )
        await inventory.batch_arrived.wait()
        stopping = asyncio.create_task(rig.stop.aclose())
        await until_refused(rig.gateway.port)
        inventory.open.set()
        answer = await attempt
        assert answer.json["outcome"] == "PURCHASE_OUTCOME_RESERVED"
        assert answer.headers["connection"] == "close"
        await stopping


async def until_refused(port: int) -> None:
    """Wait until a port takes no connection any more."""

    async def refused() -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            return False
        return True

    await eventually(refused)


async def test_a_caller_that_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers pile up to a bound; after a while the connection is closed."""
    # Pages of a hundred, sixteen of them, fit into the kernel's buffers.
    monkeypatch.setattr("gateway.sale_pages.SIZES", (1_000,))
    async with opened(tmp_path, monkeypatch, gateway_unread_timeout_s=0.3) as rig:
        for _ in range(1_000):
            rig.services.inventory.put(sale_terms())
        before = closed("unread")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect((LOOPBACK, rig.gateway.port))
            # Megabytes of answers, more than the buffers of the kernel hold.
            deaf.sendall(b"GET /v1/sales?page_size=1000 HTTP/1.1\r\nhost: x\r\n\r\n" * 16)
            await until_more(lambda: closed("unread"), before)


async def test_tls_has_both_versions_by_alpn(tmp_path: Path) -> None:
    """HTTP/2 for those who name it, HTTP/1.1 for the others."""
    made = load_or_create(tmp_path / "tls")
    files = {
        "gateway_tls_certificate": str(made.server),
        "gateway_tls_key": str(made.server_key),
    }
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, "http2", **files)
        sku = rig.services.inventory.put(sale_terms())
        spoken: list[tuple[Version, list[str]]] = [
            ("h2", ["h2"]),
            ("http/1.1", ["http/1.1"]),
            ("http/1.1", []),
        ]
        for version, names in spoken:
            context = ssl.create_default_context(cafile=str(made.authority))
            if names:
                context.set_alpn_protocols(names)
            answer = await call(
                rig.gateway.port,
                "GET",
                f"/v1/sales/{sku}",
                version=version,
                tls=context,
            )
            assert answer.json["sale"]["terms"]["sku"] == sku


async def test_without_json_there_is_grpc_alone(tmp_path: Path) -> None:
    """HTTP/1.1 is hung up on, and JSON over HTTP/2 is 415."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, "http2", gateway_json="off")
        sku = rig.services.inventory.put(sale_terms())
        assert b"HTTP/1.1" not in await until_closed(rig.gateway.port, LOOK % sku.encode())
        seen = await call(rig.gateway.port, "GET", f"/v1/sales/{sku}", version="h2")
        assert seen.status == 415
        async with connected(rig.gateway.port) as client:
            assert (await look(client, 1, sku)).grpc_status == OK


async def test_an_upgrade_is_answered_and_not_followed(rig: GatewayRig) -> None:
    """curl --http2 offers h2c: it is told no by an answer, and what follows is not trusted."""
    sku = rig.services.inventory.put(sale_terms()).encode()
    asked = (
        b"host: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n"
    )
    sent = (LOOK % sku).replace(b"host: x\r\n", asked)
    answer = await until_closed(rig.gateway.port, sent + LOOK % sku)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_noise_raises_nothing(rig: GatewayRig) -> None:
    """Requests with bytes changed, lost and doubled: the next caller is served."""
    rng = random.Random(5)
    sku = rig.services.inventory.put(sale_terms()).encode()
    body = b'{"request_id":"r"}'
    whole = LOOK % sku + POST + b"content-length: %d\r\n\r\n%s" % (len(body), body)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

    async def stranger(sent: bytes) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, rig.gateway.port)
        writer.write(sent)
        with suppress(ConnectionError):
            writer.write_eof()
            await asyncio.wait_for(reader.read(), CALL_S)
        writer.close()

    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.randrange(4)] = rng.choice(
                (b"", b"\r\n", b"\n", b":", b" ", b"\0", b"HTTP/1.1", rng.randbytes(3))
            )
        await stranger(bytes(changed))
    assert (await call(rig.gateway.port, "GET", f"/v1/sales/{sku.decode()}")).status == 200
    assert raised == []


@pytest.mark.parametrize(
    "field",
    [b"x-name: caf\xe9", b"x-na!me: x", b"x-tab: a\tb", b"authorization: Bearer caf\xe9"],
    ids=["value", "name", "control", "identity"],
)
async def test_header_fields_that_grpc_refuses_fail_no_call(rig: GatewayRig, field: bytes) -> None:
    """A call that goes on to grpc.aio is answered by what it asks for, here for an identity."""
    sent = b"POST /v1/orders/%s:cancel HTTP/1.1\r\nhost: x\r\n" % (b"0" * 26)
    sent += field + b"\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
    answer = await until_closed(rig.gateway.port, sent)
    assert answer.startswith(b"HTTP/1.1 401"), answer
