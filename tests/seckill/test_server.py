"""What the shared gRPC server answers to callers that are wrong, and when the service is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from seckill.runtime import request_ids
from seckill.runtime.server import Health, serving
from seckill.runtime.settings import ProcessSettings
from seckill.status import DETAILS_KEY, reason_of
from seckill.v1 import (
    gateway_pb2,
    gateway_pb2_grpc,
    inventory_pb2,
    inventory_pb2_grpc,
    order_pb2,
    order_pb2_grpc,
    rollback_pb2,
    rollback_pb2_grpc,
)

CALL_S = 10.0
# A field of wire type 7, which does not exist.
MALFORMED = b"\x0f"
CONTRACTS = (gateway_pb2, inventory_pb2, order_pb2, rollback_pb2, health_pb2, reflection_pb2)
SERVICES = [
    service for contract in CONTRACTS for service in contract.DESCRIPTOR.services_by_name.values()
]
METHODS: list[MethodDescriptor] = [method for service in SERVICES for method in service.methods]
GET_ORDER = "/seckill.v1.OrderService/GetOrder"
WATCH_ORDER = "/seckill.v1.OrderService/WatchOrder"
CANCEL_ORDER = "/seckill.v1.OrderService/CancelOrder"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
# What a stream of each path is asked for.
WATCHED = {
    WATCH_ORDER: order_pb2.WatchOrderRequest(order_no="one").SerializeToString(),
    HEALTH_WATCH: b"",
}


# Calls by path, with bytes for messages: the stubs know of no such channel.
RawChannel: TypeAlias = Any


class Orders(order_pb2_grpc.OrderServiceServicer):
    """Fails without an order's number, and shows an order for as long as it is watched.

    Attributes:
        asked: set when an order is to be cancelled, which is answered once `answer` is set.
        watches: how many were begun.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.watches = 0

    async def CancelOrder(self, request: order_pb2.CancelOrderRequest, context: Any) -> Any:
        del request, context
        self.asked.set()
        await self.answer.wait()
        return order_pb2.CancelOrderResponse()

    async def GetOrder(self, request: order_pb2.GetOrderRequest, context: Any) -> Any:
        if not request.order_no:
            raise ZeroDivisionError("a secret of the service")
        return order_pb2.GetOrderResponse(order=order_pb2.Order(order_no=context.peer()))

    async def WatchOrder(self, request: order_pb2.WatchOrderRequest, context: Any) -> Any:
        del context
        if not request.order_no:
            raise ZeroDivisionError("a secret of the service")
        self.watches += 1
        while True:
            yield order_pb2.WatchOrderResponse()
            await asyncio.sleep(0.01)


def make_orders() -> Orders:
    """The servicer; three methods are enough."""
    return Orders()  # type: ignore[abstract]


# The stubs' own servicers implement nothing: a malformed request does not get that far.
REGISTER: tuple[tuple[Any, Any], ...] = (
    (
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server,
        gateway_pb2_grpc.GatewayServiceServicer,
    ),
    (
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server,
        inventory_pb2_grpc.InventoryServiceServicer,
    ),
    (
        rollback_pb2_grpc.add_RollbackServiceServicer_to_server,
        rollback_pb2_grpc.RollbackServiceServicer,
    ),
)


def register(server: grpc.aio.Server, orders: Orders) -> None:
    """Serve every contract."""
    order_pb2_grpc.add_OrderServiceServicer_to_server(orders, server)
    for add, servicer in REGISTER:
        add(servicer(), server)


@asynccontextmanager
async def served(orders: Orders, **settings: float) -> AsyncIterator[int]:
    """The port of a server of all contracts."""
    names = [service.full_name for service in SERVICES]
    async with serving(
        "127.0.0.1:0",
        lambda server: register(server, orders),
        settings=ProcessSettings.model_validate({"profile": "development", **settings}),
        health_state=Health(names),
        services=names,
    ) as port:
        yield port


def channel_to(port: int) -> RawChannel:
    """A channel of its own to a server."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}")


@asynccontextmanager
async def running(**settings: float) -> AsyncIterator[RawChannel]:
    """A channel to a server of all contracts."""
    async with served(make_orders(), **settings) as port, channel_to(port) as channel:
        yield channel


@pytest.fixture(scope="module")
async def channel() -> AsyncIterator[RawChannel]:
    """A channel to a server with the default settings."""
    async with running(drain_timeout_s=0.1) as opened:
        yield opened


async def send(channel: RawChannel, method: MethodDescriptor, payload: bytes) -> None:
    """Call a method of any shape with bytes, and read one response."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        async for _ in channel.stream_stream(path)(iter([payload]), timeout=CALL_S):
            return
    elif method.server_streaming:
        async for _ in channel.unary_stream(path)(payload, timeout=CALL_S):
            return
    else:
        await channel.unary_unary(path)(payload, timeout=CALL_S)


async def read_to_its_end(watch: Any) -> None:
    """Read a stream until it fails, and let that be raised."""
    while await watch.read() is not grpc.aio.EOF:
        pass


def details_of(error: grpc.aio.AioRpcError) -> Iterator[Any]:
    """The Any messages of a status."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            yield from status_pb2.Status.FromString(value).details


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a status."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in details_of(error))
    return info


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_malformed_bytes_are_an_invalid_argument(
    channel: RawChannel, method: MethodDescriptor
) -> None:
    """At each method of each service, streams and gRPC's own services too."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(channel, method, MALFORMED)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_FIELD"
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in details_of(caught.value))
    assert [violation.field for violation in bad.field_violations] == ["request"]


@pytest.mark.parametrize("name", ["GetOrder", "WatchOrder"])
async def test_a_defect_is_internal_and_its_id_is_in_the_log(
    channel: RawChannel, name: str
) -> None:
    """The caller learns the id and nothing else; the log has the traceback under it."""
    method = order_pb2.DESCRIPTOR.services_by_name["OrderService"].methods_by_name[name]
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(channel, method, b"")
    error = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "Internal error.")
    info = info_of(error)
    assert info.reason == "INTERNAL"
    (line,) = (entry for entry in logs if entry["log_level"] == "error")
    assert line["request_id"] == info.metadata[request_ids.METADATA_KEY] != ""
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert "secret" not in str(error.trailing_metadata())


async def test_an_aged_connection_takes_no_new_calls_and_keeps_its_old_ones() -> None:
    """New calls come over new connections, a watch goes on beyond the age and the drain's time."""
    order = order_pb2.GetOrderRequest(order_no="one").SerializeToString()
    async with running(
        connection_age_max_s=0.2, connection_grace_s=60, drain_timeout_s=0.1
    ) as opened:
        watch = opened.unary_stream(WATCH_ORDER)(order, timeout=CALL_S)
        peers = set[bytes]()
        async for _ in watch:
            peers.add(await opened.unary_unary(GET_ORDER)(order, timeout=CALL_S))
            if len(peers) == 4:
                break
        assert len(peers) == 4
        watch.cancel()


@pytest.mark.parametrize("path", [WATCH_ORDER, HEALTH_WATCH])
async def test_a_server_that_stops_ends_its_streams_at_once_and_finishes_its_calls(
    path: str,
) -> None:
    """A watch ends UNAVAILABLE and is told when to come back; the drain does not wait for it."""
    orders = make_orders()
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(served(orders, drain_timeout_s=60))
        async with channel_to(port) as opened, asyncio.timeout(CALL_S):
            slow = asyncio.ensure_future(opened.unary_unary(CANCEL_ORDER)(b""))
            await orders.asked.wait()
            watch = opened.unary_stream(path)(WATCHED[path])
            await watch.read()
            stopping = asyncio.create_task(server.aclose())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_to_its_end(watch)
            assert not slow.done()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(caught.value) == "DEPENDENCY_UNAVAILABLE"
            retry = error_details_pb2.RetryInfo()
            assert any(detail.Unpack(retry) for detail in details_of(caught.value))
            assert 0 < retry.retry_delay.ToMilliseconds() < 1_000
            orders.answer.set()
            await slow
            await stopping


async def test_a_server_that_stops_says_so_before_it_ends_its_streams() -> None:
    """GOAWAY goes first: who watches again at once is not answered by the replica that stops."""
    orders = make_orders()
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(served(orders, drain_timeout_s=60))
        async with channel_to(port) as opened, asyncio.timeout(CALL_S):
            watch = opened.unary_stream(WATCH_ORDER)(WATCHED[WATCH_ORDER])
            await watch.read()
            stopping = asyncio.create_task(server.aclose())
            with pytest.raises(grpc.aio.AioRpcError):
                await read_to_its_end(watch)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_to_its_end(opened.unary_stream(WATCH_ORDER)(WATCHED[WATCH_ORDER]))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert orders.watches == 1
            await stopping


async def test_health_is_served_to_callers_that_are_right(channel: RawChannel) -> None:
    """The library's own services pass through the same interceptor."""
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service="live"), timeout=CALL_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
