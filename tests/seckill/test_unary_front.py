"""A service's own front beside grpc.aio: callers notice no difference, whichever serves them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from devstack.authority import Authority
from devstack.certificates import issue_stage
from seckill.errors import KillSwitchOn
from seckill.front.connection_counts import ConnectionCounts
from seckill.front.limits import FrontLimits
from seckill.front.serving import unary_front
from seckill.front.unary import UnaryMethod
from seckill.runtime import request_ids
from seckill.runtime.callers import EDGE, GATEWAY, INVENTORY
from seckill.runtime.server import Health, serving
from seckill.runtime.settings import ProcessSettings
from seckill.status import reason_of
from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from tests.kits.http2_calls import PATH, RESPONSE, SERVICE, calling
from tests.kits.secure.stages import calling as calling_securely
from tests.kits.secure.stages import settings_of
from tests.kits.waiting import Signal, eventually

CALL_S = 20.0
Status = grpc.StatusCode
Request = inventory_pb2.BatchReserveRequest


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    """Does what the sku says.

    Attributes:
        ids, left_s: the id of each call, and the time that it had.
        cancelled: calls that were cancelled while they were held.
        changed: one of these has changed.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.left_s: list[float | None] = []
        self.cancelled = 0
        self.changed = Signal()
        self.open = asyncio.Event()

    async def BatchReserve(self, request: Request, context: Any) -> Any:
        self.ids.append(request_ids.current())
        self.left_s.append(context.time_remaining())
        self.changed.notify()
        if request.sku == "stopped":
            raise KillSwitchOn
        if request.sku == "broken":
            raise ZeroDivisionError
        if request.sku == "held":
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                self.changed.notify()
                raise
        return RESPONSE

    async def GetSale(self, request: inventory_pb2.GetSaleRequest, context: Any) -> Any:
        del request, context
        self.ids.append(request_ids.current())
        return inventory_pb2.GetSaleResponse()

    async def SetKillSwitch(
        self, request: inventory_pb2.SetKillSwitchRequest, context: Any
    ) -> inventory_pb2.SetKillSwitchResponse:
        del request, context
        return inventory_pb2.SetKillSwitchResponse()

    async def WatchSales(
        self, request: inventory_pb2.WatchSalesRequest, context: Any
    ) -> AsyncIterator[inventory_pb2.WatchSalesResponse]:
        del request, context
        yield inventory_pb2.WatchSalesResponse(complete=True)
        await self.open.wait()


def limits_of(settings: ProcessSettings, **changes: Any) -> FrontLimits:
    """Bounds that no test meets by accident."""
    values: dict[str, Any] = {
        "connections_max": 100,
        "streams_max": 100,
        "resets_per_s_max": 1_000,
        "half_open_max": 100,
        "request_timeout_s": 10.0,
        "handshake_timeout_s": 5.0,
        "idle_timeout_s": 120.0,
        "unread_timeout_s": 20.0,
        "unread_bytes_max": 4 * 1024 * 1024,
        "header_bytes_max": 16 * 1024,
        "passed_streams_max": 100,
        "passed_bytes_max": 16 * 1024 * 1024,
        "age_max_s": settings.connection_age_max_s,
        "age_grace_s": settings.connection_grace_s,
        "drain_timeout_s": settings.drain_timeout_s,
    }
    return FrontLimits(**values | changes)


Serve = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def serve(
    kind: str,
    inventory: Inventory,
    settings: ProcessSettings | None = None,
    *,
    listen: str = "127.0.0.1:0",
) -> AsyncIterator[str]:
    """Serve with the front of that kind; yields the address."""
    settings = settings or ProcessSettings.model_validate({"profile": "development"})

    def register(server: grpc.aio.Server) -> None:
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server(inventory, server)

    health = Health([SERVICE])
    if kind == "grpcio":
        served = serving(
            listen, register, settings=settings, health_state=health, services=[SERVICE]
        )
    else:
        registry = CollectorRegistry()
        served = unary_front(
            listen,
            [UnaryMethod(PATH, Request, inventory.BatchReserve)],
            register,
            settings=settings,
            limits=limits_of(settings),
            metrics=ConnectionCounts(
                Gauge("open", "Open.", registry=registry),
                Counter("closed", "Closed.", ["reason"], registry=registry),
            ),
            health_state=health,
            services=[SERVICE],
        )
    async with served as port:
        await health.set_ready(True)
        yield f"127.0.0.1:{port}"


@pytest.fixture(params=["http2", "grpcio"])
def serves(request: pytest.FixtureRequest) -> Serve:
    """Each kind of front."""
    return partial(serve, request.param)


@asynccontextmanager
async def stub_at(
    address: str, **options: Any
) -> AsyncIterator["inventory_pb2_grpc.InventoryServiceAsyncStub"]:
    """A stub on a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=own, **options) as channel:
        yield inventory_pb2_grpc.InventoryServiceStub(channel)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def new_inventory() -> Inventory:
    """One that nobody has asked yet."""
    return Inventory()  # type: ignore[abstract]  # three methods are enough


async def test_answers_and_failures_are_the_same(serves: Serve) -> None:
    """What the handler returns, refuses, breaks on, and what is no request at all."""
    async with serves(new_inventory()) as address, stub_at(address) as stub:
        assert await stub.BatchReserve(Request(sku="phone"), timeout=CALL_S) == RESPONSE
        stopped = await failure(stub.BatchReserve(Request(sku="stopped"), timeout=CALL_S))
        assert stopped.code() is KillSwitchOn.code
        assert reason_of(stopped) == "KILL_SWITCH"
        broken = await failure(stub.BatchReserve(Request(sku="broken"), timeout=CALL_S))
        assert broken.code() is Status.INTERNAL
        assert reason_of(broken) == "INTERNAL"
        async with grpc.aio.insecure_channel(address) as channel:
            raw: Any = channel.unary_unary(PATH)
            malformed = await failure(raw(b"\xff\xff", timeout=CALL_S))
            unknown: Any = channel.unary_unary(f"/{SERVICE}/Nothing")
            missing = await failure(unknown(b"", timeout=CALL_S))
        assert malformed.code() is Status.INVALID_ARGUMENT
        assert "is not a serialized BatchReserveRequest" in str(malformed.trailing_metadata())
        assert missing.code() is Status.UNIMPLEMENTED


async def test_all_addresses_are_those_of_both_kinds(serves: Serve) -> None:
    """Who listens on [::] is reached at an IPv4 address, too."""
    async with serves(new_inventory(), listen="[::]:0") as address, stub_at(address) as stub:
        assert address.startswith("127.0.0.1:")
        assert await stub.BatchReserve(Request(sku="phone"), timeout=CALL_S) == RESPONSE


async def test_a_compressed_request_is_read(serves: Serve) -> None:
    """Callers of other languages may compress."""
    async with (
        serves(new_inventory()) as address,
        stub_at(address, compression=grpc.Compression.Gzip) as stub,
    ):
        large = Request(sku="s" * 10_000)
        assert await stub.BatchReserve(large, timeout=CALL_S) == RESPONSE


async def test_a_call_has_its_id_and_its_time_and_is_counted(serves: Serve) -> None:
    """By the service that names it, and by the metrics of all servers."""

    def handled(code: str) -> float:
        labels = {
            "grpc_type": "unary",
            "grpc_service": SERVICE,
            "grpc_method": "BatchReserve",
            "grpc_code": code,
        }
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels) or 0.0

    before = handled("OK"), handled("FailedPrecondition")
    inventory = new_inventory()
    async with serves(inventory) as address, stub_at(address) as stub:
        named = (("x-request-id", "call-0001"),)
        await stub.BatchReserve(Request(), metadata=named, timeout=3.0)
        await failure(stub.BatchReserve(Request(sku="stopped"), timeout=CALL_S))
        await stub.GetSale(inventory_pb2.GetSaleRequest(), metadata=named, timeout=CALL_S)
    assert inventory.ids[0] == inventory.ids[2] == "call-0001"
    left_s = inventory.left_s[0]
    assert left_s is not None
    assert 0 < left_s <= 3.01
    assert (handled("OK"), handled("FailedPrecondition")) == (before[0] + 1, before[1] + 1)


async def test_who_leaves_or_waits_no_longer_ends_what_is_done_for_them(serves: Serve) -> None:
    """A call that is cancelled, one whose deadline passes, and one whose connection ends."""
    inventory = new_inventory()
    async with serves(inventory) as address:
        async with stub_at(address) as stub:
            call = stub.BatchReserve(Request(sku="held"), timeout=CALL_S)
            task = asyncio.ensure_future(call.code())
            await inventory.changed.until(lambda: len(inventory.ids) == 1)
            call.cancel()
            assert await task is Status.CANCELLED
            await inventory.changed.until(lambda: inventory.cancelled == 1)
            late = await failure(stub.BatchReserve(Request(sku="held"), timeout=0.3))
            assert late.code() is Status.DEADLINE_EXCEEDED
            await inventory.changed.until(lambda: inventory.cancelled == 2)
            held = asyncio.ensure_future(
                stub.BatchReserve(Request(sku="held"), timeout=CALL_S).code()
            )
            await inventory.changed.until(lambda: len(inventory.ids) == 3)
        await inventory.changed.until(lambda: inventory.cancelled == 3)
        await held


async def test_a_server_that_stops_finishes_its_calls_and_ends_its_streams(serves: Serve) -> None:
    """What it has taken it answers; a stream would go on for ever."""
    inventory = new_inventory()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(AsyncExitStack())
        address = await served.enter_async_context(serves(inventory))
        stub = await stack.enter_async_context(stub_at(address))
        stream: Any = stub.WatchSales(inventory_pb2.WatchSalesRequest(), timeout=CALL_S)
        assert (await stream.read()).complete
        call = asyncio.ensure_future(stub.BatchReserve(Request(sku="held"), timeout=CALL_S))
        await inventory.changed.until(lambda: len(inventory.ids) == 1)
        stopping = asyncio.create_task(served.aclose())
        assert await stream.code() is Status.UNAVAILABLE
        assert not call.done()
        inventory.open.set()
        assert await call == RESPONSE
        await stopping
        refused = await failure(stub.BatchReserve(Request(), timeout=CALL_S))
        assert refused.code() is Status.UNAVAILABLE


async def test_callers_move_to_new_connections_without_a_failure(serves: Serve) -> None:
    """Connections end at their age; both kinds of channels go on."""
    settings = ProcessSettings.model_validate(
        {"profile": "development", "connection_age_max_s": 0.2}
    )
    inventory = new_inventory()
    async with (
        serves(inventory, settings) as address,
        calling(address) as ours,
        stub_at(address) as theirs,
    ):
        started_s = asyncio.get_running_loop().time()

        async def old_enough() -> bool:
            for call in (ours, theirs.BatchReserve):
                assert await call(Request(), timeout=CALL_S) == RESPONSE
            return asyncio.get_running_loop().time() > started_s + 3

        await eventually(old_enough)


async def test_health_is_answered_on_the_same_port(serves: Serve) -> None:
    """By the server behind."""
    async with (
        serves(new_inventory()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", ["BatchReserve", "WatchSales", "SetKillSwitch"])
async def test_the_table_of_callers_holds_for_what_is_served_here_and_what_is_passed_on(
    serves: Serve, tmp_path: Path, method: str
) -> None:
    """By the certificate of who calls: the server behind sees none."""
    authority = Authority(tmp_path / "mesh")
    settings = settings_of(authority, issue_stage(authority, INVENTORY))
    allowed = {"BatchReserve": {GATEWAY}, "WatchSales": {GATEWAY, EDGE}, "SetKillSwitch": {EDGE}}
    async with serves(new_inventory(), settings) as address:
        for stage in (GATEWAY, EDGE, INVENTORY):
            own = issue_stage(authority, stage)
            async with calling_securely(address, authority, own) as channel:
                ask: Any = channel.unary_stream(f"/{SERVICE}/{method}")
                call = ask(b"", timeout=CALL_S)
                first = asyncio.ensure_future(call.read())
                if stage in allowed[method]:
                    assert await first != grpc.aio.EOF
                else:
                    refused = await failure(first)
                    assert refused.code() is Status.PERMISSION_DENIED
                    assert reason_of(refused) == "NOT_ALLOWED"
                call.cancel()


async def test_a_request_that_is_too_large_is_refused_before_it_has_come() -> None:
    """Four megabytes are the bound of every server of the mesh."""
    inventory = new_inventory()
    async with serve("http2", inventory) as address, stub_at(address) as stub:
        large = Request(sku="s" * 5_000_000)
        refused = await failure(stub.BatchReserve(large, timeout=CALL_S))
        assert refused.code() is Status.INVALID_ARGUMENT
        assert not inventory.ids
        assert await stub.BatchReserve(Request(), timeout=CALL_S) == RESPONSE
