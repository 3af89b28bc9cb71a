"""The channel on our own HTTP/2 against servers of gRPC: the same calls, the same failures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from seckill.errors import KillSwitchOn, OutcomeUnknown
from seckill.runtime import request_ids
from seckill.runtime.channel import open_channel
from seckill.runtime.never_sent import was_never_sent
from seckill.runtime.server import FaultsAndMetrics
from seckill.status import from_rpc_error, reason_of
from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from tests.kits.http2_calls import CALL_S, REQUEST, SERVICE, calling, failure
from tests.kits.waiting import eventually

Response = inventory_pb2.BatchReserveResponse


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    """Answers each item, if the sku lets it."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.left_s: list[float] = []

    async def BatchReserve(
        self, request: inventory_pb2.BatchReserveRequest, context: Any
    ) -> Response:
        self.ids.append(request_ids.current())
        self.left_s.append(context.time_remaining())
        if request.sku == "stopped":
            raise KillSwitchOn
        if request.sku == "lost":
            raise OutcomeUnknown("the reply was lost")
        return Response(
            results=[inventory_pb2.ReserveResult(order_no=item.user_id) for item in request.items]
        )


@asynccontextmanager
async def inventory() -> AsyncIterator[tuple[Inventory, str]]:
    """A server of grpc.aio; its address."""
    servicer = Inventory()  # type: ignore[abstract]  # one method is enough
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()])
    inventory_pb2_grpc.add_InventoryServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("items", [1, 512, 20_000])
async def test_requests_and_answers_of_any_size_arrive(items: int) -> None:
    """From one attempt to more than a megabyte each way."""
    batch = inventory_pb2.BatchReserveRequest(sku="phone")
    for number in range(items):
        batch.items.add(user_id=f"user-{number:060d}", request_id=f"r-{number}", quantity=1)
    async with inventory() as (_, address), calling(address) as method:
        answer = await method(batch, timeout=CALL_S)
    assert [result.order_no for result in answer.results] == [item.user_id for item in batch.items]


async def test_failures_are_what_a_channel_of_grpc_says_they_are() -> None:
    """Code, message and details are the same."""
    async with (
        inventory() as (_, address),
        calling(address) as method,
        open_channel(address, service=SERVICE, breaker=False) as channel,
    ):
        stub: Any = inventory_pb2_grpc.InventoryServiceStub(channel)
        for sku in ("stopped", "lost"):
            errors = []
            for call in (method, stub.BatchReserve):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(inventory_pb2.BatchReserveRequest(sku=sku), timeout=CALL_S)
                errors.append(caught.value)
            ours, theirs = errors
            assert ours.code() is theirs.code()
            assert ours.details() == theirs.details()
            trailing = [dict(error.trailing_metadata()) for error in errors]
            assert trailing[0].keys() == trailing[1].keys()
            faults = [from_rpc_error(error, service="inventory") for error in errors]
            assert [str(fault) for fault in faults] == [str(faults[0])] * 2
            assert reason_of(ours) == reason_of(theirs)


async def test_the_id_of_a_call_and_its_time_reach_the_server_and_it_is_counted() -> None:
    """As with any other channel of the mesh."""

    def handled(code: str) -> float:
        labels = {
            "grpc_type": "unary",
            "grpc_service": SERVICE,
            "grpc_method": "BatchReserve",
            "grpc_code": code,
        }
        return REGISTRY.get_sample_value("grpc_client_handled_total", labels) or 0.0

    before = handled("OK"), handled("FailedPrecondition")
    async with inventory() as (servicer, address), calling(address) as method:
        with request_ids.batch():
            request_ids.bind("batch-0001")
            await method(REQUEST, timeout=3.0)
        await failure(method, request=inventory_pb2.BatchReserveRequest(sku="stopped"))
    assert servicer.ids[0] == "batch-0001"
    assert 0 < servicer.left_s[0] <= 3.01
    assert (handled("OK"), handled("FailedPrecondition")) == (before[0] + 1, before[1] + 1)


async def test_a_service_that_is_away_opens_the_breaker_and_is_found_again() -> None:
    """Callers are refused at once, with our details; the first answer closes it."""

    def is_open() -> float | None:
        return REGISTRY.get_sample_value("seckill_breaker_open", {"service": "InventoryService"})

    async with inventory() as (_, address):
        pass
    async with calling(address, breaker=True) as method:
        for _ in range(5):
            assert was_never_sent(await failure(method))
        refused = await failure(method)
        assert reason_of(refused) == "DEPENDENCY_UNAVAILABLE"
        assert is_open() == 1
        server = grpc.aio.server()
        servicer = Inventory()  # type: ignore[abstract]
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server(servicer, server)
        server.add_insecure_port(address)
        await server.start()

        async def answered() -> bool:
            try:
                await method(REQUEST, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(answered)
        assert is_open() == 0
        await server.stop(None)
