"""Channels between services: who is in the balancing, and who leaves it."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest

from seckill.client.transport import channel_options
from seckill.runtime.channel import open_channel
from seckill.runtime.http2.channel import Http2Channel, open_http2_channel
from seckill.runtime.http2.targets import Address, Target
from seckill.runtime.server import Health, serving
from seckill.runtime.settings import ProcessSettings
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.faults.proxy import FaultProxy
from tests.kits.waiting import eventually

SERVICE = "seckill.v1.OrderService"
HOST = "mesh.test"
BROKEN = "broken"


class Orders(order_pb2_grpc.OrderServiceServicer):
    """Answers with the name of the replica, unless that is BROKEN."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def GetOrder(self, request: order_pb2.GetOrderRequest, context: Any) -> Any:
        del request
        if self._name == BROKEN:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
        return order_pb2.GetOrderResponse(order=order_pb2.Order(order_no=self._name))


class Resolver(asyncio.DatagramProtocol):
    """A DNS server that knows one name, whose addresses the test sets."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5  # the name, its type and class
        (kind,) = struct.unpack("!H", data[end - 4 : end - 2])
        found = self.addresses if kind == 1 else []  # IPv4; there is no IPv6
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0)
        answers = b"".join(
            struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        )
        self._transport.sendto(header + data[12:end] + answers, addr)


@asynccontextmanager
async def replica(name: str, listen: str, **settings: float) -> AsyncIterator[int]:
    """A ready replica of OrderService; its port."""
    health = Health([SERVICE])
    orders = Orders(name)  # type: ignore[abstract]  # one method is enough
    async with serving(
        listen,
        lambda server: order_pb2_grpc.add_OrderServiceServicer_to_server(orders, server),
        settings=ProcessSettings.model_validate({"drain_timeout_s": 0.1, **settings}),
        health_state=health,
        services=[SERVICE],
    ) as port:
        await health.set_ready(True)
        yield port


# A method of a stub.
GetOrder = Any


@asynccontextmanager
async def over_grpcio(target: str) -> AsyncIterator[GetOrder]:
    """GetOrder over a channel of gRPC."""
    async with open_channel(target, service=SERVICE) as channel:
        yield order_pb2_grpc.OrderServiceStub(channel).GetOrder


@asynccontextmanager
async def over_http2(target: str) -> AsyncIterator[GetOrder]:
    """GetOrder over a channel of our own."""
    async with open_http2_channel(target, service=SERVICE) as channel:
        yield channel.unary(f"/{SERVICE}/GetOrder", order_pb2.GetOrderResponse)


@asynccontextmanager
async def over_client(target: str) -> AsyncIterator[GetOrder]:
    """GetOrder over a channel with the options of our client."""
    async with grpc.aio.insecure_channel(target, options=channel_options(())) as channel:
        yield order_pb2_grpc.OrderServiceStub(channel).GetOrder


Opened = Callable[[str], AbstractAsyncContextManager[GetOrder]]
between_services = pytest.mark.parametrize("opened", [over_grpcio, over_http2])


async def ask(get_order: GetOrder, *, timeout_s: float) -> str:
    """Which replica answers; empty if none does."""
    try:
        answer = await get_order(order_pb2.GetOrderRequest(), timeout=timeout_s)
    except grpc.aio.AioRpcError:
        return ""
    return str(answer.order.order_no)


@pytest.mark.slow
@between_services
async def test_a_replica_that_never_answers_leaves_the_balancing(opened: Opened) -> None:
    """It acknowledges every byte, as a frozen process behind a proxy: out within 25 s."""
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(replica("good", "127.0.0.1:0"))
        frozen = await stack.enter_async_context(replica("frozen", "127.0.0.1:0"))
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", frozen).running())
        target = f"ipv4:127.0.0.1:{good},127.0.0.1:{proxy.port}"
        channel = await stack.enter_async_context(opened(target))
        seen = set[str]()
        while seen != {"good", "frozen"}:
            seen.add(await ask(channel, timeout_s=10))
        proxy.replies.clear()
        frozen_s = last_failure_s = time.monotonic()
        while time.monotonic() < frozen_s + 32:
            if not await ask(channel, timeout_s=0.5):
                last_failure_s = time.monotonic()
            await asyncio.sleep(0.1)
        assert 0 < last_failure_s - frozen_s < 27
        proxy.heal()


@between_services
async def test_a_replica_whose_calls_fail_is_left_out_within_seconds(opened: Opened) -> None:
    """Its connection is well and its health too: only its failures tell."""
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(replica("good", "127.0.0.1:0"))
        broken = await stack.enter_async_context(replica(BROKEN, "127.0.0.1:0"))
        target = f"ipv4:127.0.0.1:{good},127.0.0.1:{broken}"
        channel = await stack.enter_async_context(opened(target))

        async def ask_often() -> set[str]:
            return {await ask(channel, timeout_s=10.0) for _ in range(20)}

        await eventually(ask_often, lambda answers: answers == {"good", ""})
        await eventually(ask_often, lambda answers: answers == {"good"})


@pytest.mark.parametrize("opened", [over_grpcio, over_client])
async def test_a_new_replica_gets_calls_as_soon_as_a_connection_ages(opened: Opened) -> None:
    """Its address is asked for when a connection ends, not up to 30 s later."""
    resolver = Resolver()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: resolver, local_addr=("127.0.0.1", 0)
    )
    dns_port = transport.get_extra_info("sockname")[1]
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            replica("old", "127.0.0.1:0", connection_age_max_s=1)
        )
        resolver.addresses = ["127.0.0.1"]
        channel = await stack.enter_async_context(
            opened(f"dns://127.0.0.1:{dns_port}/{HOST}:{port}")
        )
        assert await ask(channel, timeout_s=10) == "old"
        await stack.enter_async_context(replica("new", f"127.0.0.2:{port}"))
        resolver.addresses = ["127.0.0.1", "127.0.0.2"]
        await eventually(
            lambda: ask(channel, timeout_s=1), lambda name: name == "new", timeout_s=10
        )
    transport.close()


@dataclass(frozen=True, slots=True)
class Known(Target):
    """Stands for the addresses that the test sets."""

    addresses: list[Address] = field(default_factory=list)

    async def resolve(self) -> tuple[Address, ...]:
        return tuple(self.addresses)


async def test_a_channel_of_our_own_finds_new_replicas_and_leaves_old_ones() -> None:
    """The one whose address is gone gets no calls, though it would still answer them."""
    target = Known("mesh", None)
    async with AsyncExitStack() as stack:
        old, new = [
            Address(
                "127.0.0.1",
                await stack.enter_async_context(
                    replica(name, "127.0.0.1:0", connection_age_max_s=1)
                ),
            )
            for name in ("old", "new")
        ]
        target.addresses.append(old)
        channel = Http2Channel(target, service=SERVICE, mesh=None, breaks=False)
        channel.start()
        stack.push_async_callback(channel.close)
        get_order = channel.unary(f"/{SERVICE}/GetOrder", order_pb2.GetOrderResponse)

        async def ask_often() -> set[str]:
            return {await ask(get_order, timeout_s=10) for _ in range(4)}

        assert await ask_often() == {"old"}
        target.addresses.append(new)
        await eventually(ask_often, lambda names: names == {"old", "new"})
        target.addresses.remove(old)
        await eventually(ask_often, lambda names: names == {"new"})
