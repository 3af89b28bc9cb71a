"""What reflection answers to those who ask for a symbol."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from seckill.runtime.reflection import enable_reflection
from seckill.v1 import gateway_pb2

SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name


@pytest.fixture
async def stub() -> AsyncIterator[reflection_pb2_grpc.ServerReflectionStub]:
    """Reflection of a server that claims to serve the gateway's contract."""
    server = grpc.aio.server()
    enable_reflection([SERVICE], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield reflection_pb2_grpc.ServerReflectionStub(channel)
    await server.stop(None)


async def answer(
    stub: reflection_pb2_grpc.ServerReflectionStub, symbol: str
) -> reflection_pb2.ServerReflectionResponse:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    async for response in stub.ServerReflectionInfo(iter([request]), timeout=5.0):
        return response
    raise AssertionError("no answer")


@pytest.mark.parametrize("symbol", [SERVICE, f"{SERVICE}.Purchase", "seckill.v1.PurchaseRequest"])
async def test_a_symbol_is_found_also_if_it_is_a_method(
    stub: reflection_pb2_grpc.ServerReflectionStub, symbol: str
) -> None:
    """ghz asks for the method that it calls."""
    response = await answer(stub, symbol)
    assert response.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("symbol", [f"{SERVICE}.Steal", "seckill.v1.Unknown", "Purchase", ""])
async def test_an_unknown_symbol_is_not_found(
    stub: reflection_pb2_grpc.ServerReflectionStub, symbol: str
) -> None:
    """And nothing breaks."""
    response = await answer(stub, symbol)
    assert response.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
