"""Calls that are passed through: streams of any size, both ways, at the slower side's pace."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from gateway.front.load import TimedAdmission
from gateway.front.serving import http2_front
from gateway.settings import GatewaySettings
from seckill.runtime.server import Health
from seckill.runtime.settings import ProcessSettings
from tests.gateway.test_lifetime import LIMITS

MEGABYTE = bytes(range(256)) * 4_096
OPTIONS = [("grpc.max_receive_message_length", 8 * 1024 * 1024)]
CALL_S = 30.0
Context = grpc.aio.ServicerContext[Any, Any]


class Echo(grpc.GenericRpcHandler):
    """Says what it hears; counts what it has said."""

    def __init__(self) -> None:
        self.said = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == "/test.Echo/Stream":
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if handler_call_details.method == "/test.Echo/Endless":
            return grpc.unary_stream_rpc_method_handler(self._endless)
        return None

    async def _stream(
        self, requests: AsyncIterator[bytes], _context: Context
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def _endless(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        while True:
            self.said += 1
            yield request


@asynccontextmanager
async def passed_to(echo: Echo, **changes: Any) -> AsyncIterator[grpc.aio.Channel]:
    """A channel through a front without methods of its own."""
    limits = {name: getattr(LIMITS, name) for name in LIMITS.__slots__}
    for name, field in GatewaySettings.model_fields.items():
        if name.removeprefix("gateway_") in limits:
            limits[name.removeprefix("gateway_")] = field.default
    front = http2_front(
        "127.0.0.1:0",
        [],
        lambda server: server.add_generic_rpc_handlers((echo,)),
        settings=ProcessSettings(profile="development"),
        admission=TimedAdmission(calls_max=10, wait_share=0.3, wait_max_s=2.0, ahead_s=0.1),
        limits=type(LIMITS)(**{**limits, **changes}),
        speaks_json=False,
        certificate=None,
        health_state=Health([]),
        services=[],
    )
    async with (
        front as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
    ):
        yield channel


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_megabytes_come_back_as_they_were(compression: grpc.Compression | None) -> None:
    """Ten streams at once, each with messages larger than any window."""
    async with passed_to(Echo()) as channel:
        stream: Any = channel.stream_stream("/test.Echo/Stream")

        async def talk(number: int) -> None:
            call = stream(timeout=CALL_S, compression=compression)
            for size in (1, 70_000, len(MEGABYTE), 0):
                said = bytes([number]) + MEGABYTE[:size]
                await call.write(said)
                assert await call.read() == said
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

        await asyncio.gather(*(talk(number) for number in range(10)))


async def test_a_stream_that_is_not_read_is_not_piled_up() -> None:
    """The server behind is held back; the stream's neighbour is not."""
    echo = Echo()
    async with passed_to(echo) as channel:
        endless: Any = channel.unary_stream("/test.Echo/Endless")
        unread = endless(MEGABYTE, timeout=CALL_S)
        assert await unread.read() == MEGABYTE
        stream: Any = channel.stream_stream("/test.Echo/Stream")
        for _ in range(20):
            neighbour = stream(timeout=CALL_S)
            await neighbour.write(MEGABYTE)
            assert await neighbour.read() == MEGABYTE
            await neighbour.done_writing()
        # Windows and the library's own read-ahead hold a few; without a brake it were hundreds.
        assert echo.said < 20
        unread.cancel()


async def test_there_is_room_for_so_many_streams_and_bytes() -> None:
    """RESOURCE_EXHAUSTED beyond it, and room again when they have ended."""
    async with passed_to(Echo(), passed_streams_max=2, passed_bytes_max=3_000_000) as channel:
        stream: Any = channel.stream_stream("/test.Echo/Stream")
        held = [stream(timeout=CALL_S) for _ in range(2)]
        for call in held:
            await call.write(b"x")
            assert await call.read() == b"x"
        assert await stream(timeout=CALL_S).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(2):
            await held[0].write(MEGABYTE)
            await held[0].read()
        await held[0].write(MEGABYTE)
        assert await held[0].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await held[1].done_writing()
        assert await held[1].code() is grpc.StatusCode.OK
        again = stream(timeout=CALL_S)
        await again.write(b"y")
        assert await again.read() == b"y"
        await again.done_writing()
