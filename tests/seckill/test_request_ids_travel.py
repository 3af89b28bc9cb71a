"""A call's id reaches the next service, and comes back in what its caller is told."""

from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from seckill.errors import DependencyUnavailable
from seckill.runtime import request_ids
from seckill.runtime.channel import open_channel
from seckill.runtime.server import FaultsAndMetrics
from seckill.status import from_rpc_error
from seckill.v1 import order_pb2, order_pb2_grpc
from tests.kits.gateway import details

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE = "seckill.v1.OrderService"
CALL_S = 30.0


class Service(order_pb2_grpc.OrderServiceServicer):
    """Asks the service behind it, if there is one, whose store is away."""

    def __init__(self, behind: "order_pb2_grpc.OrderServiceAsyncStub | None" = None) -> None:
        self.behind = behind
        self.ids: list[str] = []

    async def GetOrder(
        self, request: order_pb2.GetOrderRequest, context: Context
    ) -> order_pb2.GetOrderResponse:
        del context
        self.ids.append(request_ids.current())
        if self.behind is None:
            raise DependencyUnavailable("the store is away")
        try:
            return await self.behind.GetOrder(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="order") from error


async def started(service: Service) -> tuple[grpc.aio.Server, str]:
    """Serve on a free port."""
    server = grpc.aio.server(interceptors=[FaultsAndMetrics()])
    order_pb2_grpc.add_OrderServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def test_the_id_of_a_call_is_on_each_services_line_and_in_the_answer() -> None:
    """The first that fails names it, and the one before passes that on."""
    last = Service()  # type: ignore[abstract]
    last_server, last_address = await started(last)
    async with open_channel(last_address, service=SERVICE) as inner:
        stub_behind = order_pb2_grpc.OrderServiceStub(inner)
        first = Service(stub_behind)  # type: ignore[abstract]
        first_server, first_address = await started(first)
        async with grpc.aio.insecure_channel(first_address) as outer:
            stub = order_pb2_grpc.OrderServiceStub(outer)
            with capture_logs() as lines, pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetOrder(
                    order_pb2.GetOrderRequest(),
                    metadata=(("x-request-id", "call-0001"),),
                    timeout=CALL_S,
                )
        await first_server.stop(None)
    await last_server.stop(None)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value)["ErrorInfo"].metadata["request-id"] == "call-0001"
    assert first.ids == last.ids == ["call-0001"]
    told = [line["request_id"] for line in lines if line["event"] == "call failed"]
    assert told == ["call-0001", "call-0001"]
