"""The channel on our own HTTP/2 in a mesh with TLS: whom it speaks to, and with which files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from devstack.authority import Authority, Issued
from devstack.certificates import issue_stage
from seckill.runtime import mesh_tls as mesh_tls_module
from seckill.runtime.callers import EDGE, GATEWAY, INVENTORY, ORDER
from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.never_sent import was_never_sent
from seckill.status import reason_of
from seckill.v1 import inventory_pb2
from tests.kits.http2_calls import CALL_S, PATH, REQUEST, RESPONSE, calling, failure
from tests.kits.secure.stages import renew, served, settings_of
from tests.kits.waiting import Signal


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at with each use, not once a second."""
    monkeypatch.setattr(mesh_tls_module, "LOOK_S", 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the mesh."""
    return Authority(tmp_path / "mesh")


class Reserves(grpc.GenericRpcHandler):
    """Answers BatchReserve; notes the certificate that each caller shows, in PEM."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.arrived = Signal()
        self.open = asyncio.Event()
        self.open.set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == PATH:
            return grpc.unary_unary_rpc_method_handler(
                self._answer,
                request_deserializer=inventory_pb2.BatchReserveRequest.FromString,
                response_serializer=inventory_pb2.BatchReserveResponse.SerializeToString,
            )
        return None

    async def _answer(self, _request: Any, context: Any) -> Any:
        self.seen.append(context.auth_context()["x509_pem_cert"][0])
        self.arrived.notify()
        await self.open.wait()
        return RESPONSE


def mesh_of(authority: Authority, stage: str) -> tuple[MeshTls, Issued]:
    """What a stage speaks with."""
    own = issue_stage(authority, stage)
    mesh = settings_of(authority, own).mesh_tls()
    assert mesh is not None
    return mesh, own


@asynccontextmanager
async def serving_as(authority: Authority, stage: str) -> AsyncIterator[tuple[Reserves, str]]:
    """A server with the certificate of that stage."""
    reserves = Reserves()
    async with served(settings_of(authority, issue_stage(authority, stage)), reserves) as address:
        yield reserves, address


async def test_a_stage_is_served_and_another_one_is_refused_by_the_table(
    authority: Authority,
) -> None:
    """The certificate says who calls."""
    async with serving_as(authority, INVENTORY) as (_, address):
        mesh, _own = mesh_of(authority, GATEWAY)
        async with calling(address, mesh=mesh) as method:
            assert await method(REQUEST, timeout=CALL_S) == RESPONSE
        mesh, _own = mesh_of(authority, EDGE)
        async with calling(address, mesh=mesh) as method:
            error = await failure(method)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(error) is not None


async def test_only_the_stage_that_is_meant_is_spoken_to(authority: Authority) -> None:
    """Who has taken its address is not told anything."""
    mesh, _own = mesh_of(authority, GATEWAY)
    async with (
        serving_as(authority, ORDER) as (reserves, address),
        calling(address, mesh=mesh) as method,
    ):
        error = await failure(method)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert was_never_sent(error)
    assert not reserves.seen


async def test_who_speaks_in_clear_is_not_spoken_to(authority: Authority) -> None:
    """Nor is TLS spoken by who has no certificate."""
    mesh, _own = mesh_of(authority, GATEWAY)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with calling(f"127.0.0.1:{port}", mesh=mesh) as method:
        assert was_never_sent(await failure(method))
    await server.stop(None)
    async with serving_as(authority, INVENTORY) as (_, address), calling(address) as method:
        assert was_never_sent(await failure(method))


async def test_a_renewed_certificate_is_shown_and_calls_under_way_go_on(
    tmp_path: Path, authority: Authority
) -> None:
    """The next call has a connection with the new one; the last one ends on the old."""
    mesh, own = mesh_of(authority, GATEWAY)
    async with (
        serving_as(authority, INVENTORY) as (reserves, address),
        calling(address, mesh=mesh) as method,
    ):
        reserves.open.clear()
        under_way = asyncio.create_task(method(REQUEST, timeout=CALL_S))
        await reserves.arrived.until(lambda: len(reserves.seen) == 1)
        renewed = renew(authority, GATEWAY, own, tmp_path)
        later = asyncio.create_task(method(REQUEST, timeout=CALL_S))
        await reserves.arrived.until(lambda: len(reserves.seen) == 2)
        reserves.open.set()
        assert await under_way == await later == RESPONSE
    before, after = reserves.seen
    assert before != after
    assert after in renewed.certificate.read_bytes()
