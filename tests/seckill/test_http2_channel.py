"""The channel on our own HTTP/2: what calls become of servers that behave, and of others."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest

from seckill.errors import KillSwitchOn
from seckill.runtime.http2.channel import TRIES_MAX
from seckill.runtime.http2.engine import Code
from seckill.runtime.http2.unary_call import ANSWER_BYTES_MAX
from seckill.runtime.never_sent import NeverSent, was_never_sent
from seckill.status import DETAILS_KEY, encode_details, from_rpc_error, reason_of
from seckill.v1 import inventory_pb2
from tests.kits import wire
from tests.kits.http2_calls import CALL_S, REQUEST, RESPONSE, Method, calling, failure
from tests.kits.wire import frame, message, setting
from tests.kits.wire_peer import ANSWER, OK, Handle, Peer, PeerServer

MAX_CONCURRENT_STREAMS = 3
Status = grpc.StatusCode
ANSWERED = message(RESPONSE.SerializeToString())


@asynccontextmanager
async def called(
    handle: Handle, *, settings: bytes | None = b""
) -> AsyncIterator[tuple[PeerServer, Method]]:
    """A server that does what the test says, and calls to it."""
    server = PeerServer(handle, settings=settings)
    async with server.running(), calling(f"127.0.0.1:{server.port}") as method:
        yield server, method


async def answers(peer: Peer, stream: int) -> None:
    await peer.answer(stream, ANSWERED)


def has_handled(server: PeerServer, count: int) -> bool:
    return server.handled == count


async def never(_: Peer, __: int) -> None:
    return None


# -- what may be answered ----------------------------------------------------------------------


Answer = Callable[[Peer, int], Awaitable[None]]


def _sends(*parts: Callable[[Peer, int], bytes]) -> Answer:
    async def answer(peer: Peer, stream: int) -> None:
        await peer.send(*(part(peer, stream) for part in parts))

    return answer


def _fields(*fields: tuple[str, str], ends: bool = False) -> Callable[[Peer, int], bytes]:
    return lambda peer, stream: peer.headers(stream, fields, ends=ends)


def _data(body: bytes, *, ends: bool = False) -> Callable[[Peer, int], bytes]:
    return lambda _, stream: frame(wire.DATA, wire.END_STREAM if ends else 0, stream, body)


def _resets(code: int) -> Answer:
    async def answer(peer: Peer, stream: int) -> None:
        await peer.reset(stream, code)

    return answer


async def _hangs_up(peer: Peer, _: int) -> None:
    peer.hang_up()


async def _hangs_up_half_way(peer: Peer, stream: int) -> None:
    await peer.send(peer.headers(stream, ANSWER), frame(wire.DATA, 0, stream, ANSWERED[:6]))
    peer.hang_up()


async def _goes_away_and_hangs_up(peer: Peer, stream: int) -> None:
    await peer.go_away(stream)
    peer.hang_up()


async def _talks_nonsense(peer: Peer, _: int) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def _resets_after_the_beginning(peer: Peer, stream: int) -> None:
    await peer.send(peer.headers(stream, ANSWER))
    await peer.reset(stream, Code.REFUSED_STREAM)


HTML = ((":status", "503"), ("content-type", "text/html"))
MISBEHAVIOUR: dict[str, tuple[Answer, Status]] = {
    "hangs up": (_hangs_up, Status.UNAVAILABLE),
    "hangs up half way": (_hangs_up_half_way, Status.UNAVAILABLE),
    "goes away and hangs up": (_goes_away_and_hangs_up, Status.UNAVAILABLE),
    "is no HTTP/2": (_talks_nonsense, Status.UNAVAILABLE),
    "reset: INTERNAL_ERROR": (_resets(Code.INTERNAL_ERROR), Status.INTERNAL),
    "reset: CANCEL": (_resets(Code.CANCEL), Status.CANCELLED),
    "reset: ENHANCE_YOUR_CALM": (_resets(Code.ENHANCE_YOUR_CALM), Status.RESOURCE_EXHAUSTED),
    "refused after the beginning": (_resets_after_the_beginning, Status.UNAVAILABLE),
    "a proxy's 503": (_sends(_fields(*HTML), _data(b"<p>", ends=True)), Status.UNAVAILABLE),
    "404": (_sends(_fields((":status", "404"), ends=True)), Status.UNIMPLEMENTED),
    "200 of a page": (
        _sends(_fields((":status", "200"), ("content-type", "text/html"))),
        Status.UNKNOWN,
    ),
    "no status": (_sends(_fields(*ANSWER), _data(ANSWERED, ends=True)), Status.UNKNOWN),
    "trailers without a status": (
        _sends(_fields(*ANSWER), _data(ANSWERED), _fields(("x-y", "z"), ends=True)),
        Status.UNKNOWN,
    ),
    "a status that is no number": (
        _sends(_fields(*ANSWER, ("grpc-status", "fine"), ends=True)),
        Status.UNKNOWN,
    ),
    "a status that there is not": (
        _sends(_fields(*ANSWER, ("grpc-status", "77"), ends=True)),
        Status.UNKNOWN,
    ),
    "OK without a message": (_sends(_fields(*ANSWER, *OK, ends=True)), Status.INTERNAL),
    "OK with an empty body": (
        _sends(_fields(*ANSWER), _fields(*OK, ends=True)),
        Status.INTERNAL,
    ),
    "two messages": (
        _sends(_fields(*ANSWER), _data(2 * ANSWERED), _fields(*OK, ends=True)),
        Status.INTERNAL,
    ),
    "half a message": (
        _sends(_fields(*ANSWER), _data(ANSWERED[:-1]), _fields(*OK, ends=True)),
        Status.INTERNAL,
    ),
    "compressed": (
        _sends(_fields(*ANSWER), _data(message(b"x", compressed=1)), _fields(*OK, ends=True)),
        Status.INTERNAL,
    ),
    "another message": (
        _sends(_fields(*ANSWER), _data(message(b"\xff\xff")), _fields(*OK, ends=True)),
        Status.INTERNAL,
    ),
    "too large": (
        _sends(_fields(*ANSWER), _data(message(b"x", length=ANSWER_BYTES_MAX + 1))),
        Status.RESOURCE_EXHAUSTED,
    ),
    "a malformed field": (_sends(_fields(*ANSWER, ("x-y", "bad "))), Status.INTERNAL),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
async def test_whatever_a_server_answers_has_a_status_and_may_have_been_handled(case: str) -> None:
    """It had the whole request: what became of it is not known. The next call is answered."""
    answer, code = MISBEHAVIOUR[case]
    spoilt: list[int] = []

    async def handle(peer: Peer, stream: int) -> None:
        if not spoilt:
            spoilt.append(stream)
            await answer(peer, stream)
        else:
            await answers(peer, stream)

    async with called(handle) as (server, method):
        error = await failure(method)
        assert error.code() is code
        assert not was_never_sent(error)
        assert server.handled == 1
        assert await method(REQUEST, timeout=CALL_S) == RESPONSE


async def test_a_status_has_its_message_and_metadata() -> None:
    """Percent-encoded text, binary details with and without padding, anything else as text."""
    fault = KillSwitchOn()
    padded = base64.b64encode(encode_details(fault)).decode()
    for details in (padded, padded.rstrip("=")):
        answer = _sends(
            _fields(
                *ANSWER,
                ("grpc-status", "9"),
                ("grpc-message", "50%25 f%C3%BCr alle"),
                (DETAILS_KEY, details),
                ("retry-after", "3"),
                ends=True,
            )
        )
        async with called(answer) as (_, method):
            error = await failure(method)
        assert error.code() is Status.FAILED_PRECONDITION
        assert error.details() == "50% für alle"
        assert dict(error.trailing_metadata()) == {
            DETAILS_KEY: encode_details(fault),
            "retry-after": "3",
        }
        assert reason_of(error) == "KILL_SWITCH"
        assert from_rpc_error(error, service="inventory").retry_after_s == 3


# -- what is certain not to have been handled --------------------------------------------------


async def test_without_a_server_calls_fail_at_once_and_were_never_sent() -> None:
    """Nobody listens: there is no use in waiting for the deadline."""
    async with asyncio.timeout(CALL_S / 2), calling("127.0.0.1:1") as method:
        error = await failure(method)
    assert error.code() is Status.UNAVAILABLE
    assert was_never_sent(error)


async def test_a_name_that_stands_for_nothing_is_unavailable() -> None:
    """It may stand for something later."""
    async with asyncio.timeout(CALL_S / 2), calling("dns:///nowhere.invalid:1") as method:
        error = await failure(method)
    assert error.code() is Status.UNAVAILABLE
    assert was_never_sent(error)


async def test_a_server_that_does_not_greet_gets_no_call() -> None:
    """The call waits for it until its deadline, and was never sent."""
    async with called(never, settings=None) as (server, method):
        error = await failure(method, timeout_s=0.3)
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert isinstance(error, NeverSent)
        assert server.handled == 0


async def test_a_server_that_hangs_up_before_it_greets_is_unavailable() -> None:
    """As a proxy without a server behind it does."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(CALL_S / 2), calling(f"127.0.0.1:{port}") as method:
        error = await failure(method)
    server.close()
    assert error.code() is Status.UNAVAILABLE
    assert was_never_sent(error)


async def test_a_refused_stream_is_tried_again_and_never_unknown() -> None:
    """REFUSED_STREAM says that nothing was done."""
    refusals = iter([True, False, *[True] * TRIES_MAX])

    async def handle(peer: Peer, stream: int) -> None:
        await (_resets(Code.REFUSED_STREAM) if next(refusals) else answers)(peer, stream)

    async with called(handle) as (server, method):
        assert await method(REQUEST, timeout=CALL_S) == RESPONSE
        assert server.handled == 2
        error = await failure(method)
        assert error.code() is Status.UNAVAILABLE
        assert was_never_sent(error)
        assert server.handled == 2 + TRIES_MAX


async def test_calls_after_the_last_of_a_goaway_go_elsewhere_and_the_others_finish() -> None:
    """The server names the last stream that it has taken; the connection ends with that."""
    finish = asyncio.Event()

    async def handle(peer: Peer, stream: int) -> None:
        first = peer is server.peers[0]
        if first and len(peer.order) == 1:
            await finish.wait()
        elif first:
            await peer.go_away(peer.order[0])
            return
        await answers(peer, stream)

    async with called(handle) as (server, method):
        under_way = asyncio.create_task(method(REQUEST, timeout=CALL_S))
        await server.changed.until(lambda: server.handled == 1)
        assert await method(REQUEST, timeout=CALL_S) == RESPONSE
        assert len(server.peers) == 2
        assert not under_way.done()
        finish.set()
        assert await under_way == RESPONSE
        await server.changed.until(lambda: server.peers[0].ended)
        assert not server.peers[1].ended


async def test_a_call_that_waited_for_its_turn_goes_elsewhere_when_its_connection_ends() -> None:
    """The server takes one call at a time, and no more than that one."""
    another_waits = asyncio.Event()

    async def handle(peer: Peer, stream: int) -> None:
        if peer is server.peers[0]:
            await another_waits.wait()
            await peer.go_away(stream)
        else:
            await answers(peer, stream)

    one = setting(MAX_CONCURRENT_STREAMS, 1)
    async with called(handle, settings=one) as (server, method):
        held = asyncio.create_task(method(REQUEST, timeout=CALL_S))
        await server.changed.until(lambda: server.handled == 1)
        queued = asyncio.create_task(method(REQUEST, timeout=CALL_S))
        another_waits.set()
        assert await queued == RESPONSE
        await answers(server.peers[0], 1)
        assert await held == RESPONSE


# -- deadlines, cancellation, sizes ------------------------------------------------------------


async def test_a_deadline_is_sent_and_kept() -> None:
    """The server is told the time that is left, and that nobody waits any more."""
    async with called(never) as (server, method):
        error = await failure(method, timeout_s=0.4)
        assert error.code() is Status.DEADLINE_EXCEEDED
        assert not was_never_sent(error)
        request = server.peers[0].requests[1]
        await server.changed.until(lambda: request.reset is not None)
        assert request.reset == Code.CANCEL
        assert request.headers["grpc-timeout"].endswith("m")
        assert 0 < int(request.headers["grpc-timeout"][:-1]) <= 400
        assert request.headers["te"] == "trailers"
        assert request.headers["content-type"] == "application/grpc"
        assert "grpc-accept-encoding" not in request.headers


async def test_a_call_that_is_cancelled_ends_its_stream() -> None:
    """Other calls on the connection go on."""
    async with called(never) as (server, method):
        calls = [asyncio.create_task(method(REQUEST, timeout=CALL_S)) for _ in range(2)]
        await server.changed.until(lambda: server.handled == 2)
        calls[0].cancel()
        (peer,) = server.peers
        await server.changed.until(lambda: peer.requests[1].reset is not None)
        assert peer.requests[1].reset == Code.CANCEL
        await answers(peer, 3)
        assert await calls[1] == RESPONSE
        with pytest.raises(asyncio.CancelledError):
            await calls[0]


async def test_a_request_waits_for_the_windows_of_the_server() -> None:
    """It is sent in parts as the server takes them, and other calls are not held up by it."""
    window = setting(wire.INITIAL_WINDOW_SIZE, 1_000)
    large = inventory_pb2.BatchReserveRequest(sku="s" * 30_000)
    async with called(answers, settings=window) as (server, method):
        assert await method(large, timeout=CALL_S) == RESPONSE
        body = server.peers[0].requests[1].data
        assert inventory_pb2.BatchReserveRequest.FromString(body[5:]) == large
        server.gives_back = False
        held = asyncio.create_task(method(large, timeout=CALL_S))
        await server.changed.until(lambda: len(server.peers[0].requests[3].data) == 1_000)
        assert await method(REQUEST, timeout=CALL_S) == RESPONSE
        held.cancel()


async def test_more_calls_than_a_connection_may_have_wait_their_turn() -> None:
    """The server says how many it takes at once."""
    waiting: list[tuple[Peer, int]] = []

    async def handle(peer: Peer, stream: int) -> None:
        waiting.append((peer, stream))

    most = setting(MAX_CONCURRENT_STREAMS, 2)
    async with called(handle, settings=most) as (server, method):
        calls = [asyncio.create_task(method(REQUEST, timeout=CALL_S)) for _ in range(5)]
        for count in (2, 3, 4, 5):
            await server.changed.until(partial(has_handled, server, count))
            await asyncio.sleep(0)
            assert server.handled == count
            await answers(*waiting.pop(0))
        await answers(*waiting.pop(0))
        assert await asyncio.gather(*calls) == [RESPONSE] * 5
