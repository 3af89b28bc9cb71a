"""Calls between services over real gRPC: what a failing service gets, and what callers see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from devstack.ports import LOOPBACK
from seckill.runtime.channel import open_channel
from seckill.runtime.server import FaultsAndMetrics
from seckill.status import DETAILS_KEY, reason_of
from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from tests.kits.waiting import eventually

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE = "seckill.v1.InventoryService"
ANSWER = inventory_pb2.GetSaleResponse()
TIMEOUT_S = 10.0
# Of a test that would otherwise wait for ever.
PATIENCE_S = 30.0


class Troubled(inventory_pb2_grpc.InventoryServiceServicer):
    """Counts attempts; fails those that it is told to, as a proxy without its service would."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.attempts = 0
        self.fails = fails

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        del request
        self.attempts += 1
        if self.fails(self.attempts):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
        return ANSWER


class GivesUp(inventory_pb2_grpc.InventoryServiceServicer):
    """A library that it uses lets the cancellation of a task of its own out."""

    async def GetSale(
        self, request: inventory_pb2.GetSaleRequest, context: Context
    ) -> inventory_pb2.GetSaleResponse:
        del request, context
        return await self._cancelled()

    async def ListHolds(
        self, request: inventory_pb2.ListHoldsRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.ListHoldsResponse]:
        del request, context
        yield inventory_pb2.ListHoldsResponse()
        await self._cancelled()

    async def _cancelled(self) -> inventory_pb2.GetSaleResponse:
        task = asyncio.create_task(asyncio.sleep(PATIENCE_S))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return ANSWER


@asynccontextmanager
async def served(
    servicer: inventory_pb2_grpc.InventoryServiceServicer,
) -> AsyncIterator["inventory_pb2_grpc.InventoryServiceAsyncStub"]:
    """The servicer behind our server's interceptor, called over our channel."""
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()])
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    try:
        async with open_channel(
            f"{LOOPBACK}:{port}", service=SERVICE, reads=["GetSale"]
        ) as channel:
            yield inventory_pb2_grpc.InventoryServiceStub(channel)
    finally:
        await server.stop(None)


async def ask(
    stub: "inventory_pb2_grpc.InventoryServiceAsyncStub",
) -> grpc.aio.AioRpcError | None:
    """One read; the error that it ends with."""
    try:
        await stub.GetSale(inventory_pb2.GetSaleRequest(), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return error
    return None


def is_open(breaker: str = "InventoryService reads") -> float | None:
    """What the metric of a breaker says."""
    return REGISTRY.get_sample_value("seckill_breaker_open", {"service": breaker})


async def test_a_stage_that_is_away_is_asked_hardly_at_all_and_found_again_by_itself() -> None:
    """Breaker open: callers are refused at once. The service is back: closed, without a restart."""
    away = True
    service = Troubled(lambda _: away)  # type: ignore[abstract]
    async with served(service) as stub:
        errors = [await ask(stub) for _ in range(300)]
        assert {error.code() for error in errors if error} == {grpc.StatusCode.UNAVAILABLE}
        assert all(errors)
        refused = [error for error in errors if error and reason_of(error)]
        assert {reason_of(error) for error in refused} == {"DEPENDENCY_UNAVAILABLE"}
        # It saw a fraction of the calls, and no storm.
        assert service.attempts < 150
        assert len(refused) > 150
        assert is_open() == 1
        # What reads do to the service does not stop those who buy.
        assert is_open("InventoryService") == 0
        away = False
        await eventually(lambda: ask(stub), lambda error: error is None)
        assert is_open() == 0
        assert [await ask(stub) for _ in range(20)] == [None] * 20


async def test_retries_of_a_stage_in_trouble_add_a_tenth_at_most() -> None:
    """It answers one attempt in four, so that no breaker opens; repeating would double its load."""
    service = Troubled(lambda attempt: attempt % 4 != 0)  # type: ignore[abstract]
    async with served(service) as stub:
        for _ in range(400):
            await ask(stub)
    assert service.attempts <= 1.1 * 400


async def test_a_single_failure_of_a_read_goes_unnoticed() -> None:
    """That is what retries are for."""
    service = Troubled(lambda attempt: attempt == 3)  # type: ignore[abstract]
    async with served(service) as stub:
        assert [await ask(stub) for _ in range(10)] == [None] * 10
    assert service.attempts == 11


async def test_a_cancelled_handler_leaves_no_caller_hanging() -> None:
    """gRPC itself would send nothing: the caller, without a deadline, would wait for ever."""
    servicer = GivesUp()  # type: ignore[abstract]
    async with served(servicer) as stub, asyncio.timeout(PATIENCE_S):
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.GetSale(inventory_pb2.GetSaleRequest())
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            async for _ in stub.ListHolds(inventory_pb2.ListHoldsRequest()):
                pass
    for caught in (unary, stream):
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "OUTCOME_UNKNOWN"
        assert DETAILS_KEY in dict(caught.value.trailing_metadata())
