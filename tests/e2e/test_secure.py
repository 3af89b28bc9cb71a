"""A mesh whose services demand certificates: each of them, asked by everybody for everything."""

import asyncio
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from devstack import Stores
from devstack.authority import Authority
from devstack.certificates import issue_stage
from seckill.runtime.callers import GATEWAY, NOBODY, OPERATOR, STAGES, rows
from seckill.v1 import gateway_pb2
from tests.kits.actions import open_sale
from tests.kits.any_caller import methods
from tests.kits.command import seckill
from tests.kits.edge import Edge
from tests.kits.factories import sale_terms
from tests.kits.mesh import Mesh
from tests.kits.waiting import eventually

CALL_S = 10.0
# A stream that has been let in says nothing for so long.
STREAM_S = 2.0
AT_ONCE_MAX = 40
TABLE = {path: stages for _, path, stages in rows()}


@pytest.fixture(scope="module", params=["http2", "grpcio"])
def secure_mesh(
    request: pytest.FixtureRequest,
    prepared_stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mesh]:
    """Start the four services with certificates, behind each front."""
    directory = tmp_path_factory.mktemp(f"secure-{request.param}")
    kind = request.param
    settings = {
        "SECKILL_GATEWAY_FRONT": kind,
        "SECKILL_GATEWAY_INVENTORY_CHANNEL": kind,
        "SECKILL_INVENTORY_FRONT": kind,
    }
    with Mesh(prepared_stores, directory=directory, settings=settings, secure=True) as running:
        yield running


@pytest.fixture(scope="module")
def edge(secure_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Start Envoy and its agent before it."""
    directory = tmp_path_factory.mktemp("edge")
    with Edge(secure_mesh.edge_settings, directory=directory, operators={}) as running:
        yield running


async def refused_by_table(channel: grpc.aio.Channel, method: MethodDescriptor, stage: str) -> bool:
    """Call a method with an empty request; return whether the caller may not."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    call: Any
    try:
        if method.server_streaming:
            call = channel.unary_stream(path)
            stream = call(b"", timeout=STREAM_S)
            await stream.read()
            stream.cancel()
        else:
            call = channel.unary_unary(path)
            await call(b"", timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        # Others are let in, and told what an empty request lacks.
        return error.details() == f"{stage} may not call {path[1:]}"
    return False


@pytest.mark.parametrize("stage", [*STAGES, NOBODY])
async def test_every_service_holds_to_the_table(secure_mesh: Mesh, stage: str) -> None:
    """Real processes, every method, every caller."""
    certificates = secure_mesh.certificates
    assert certificates is not None
    slots = asyncio.Semaphore(AT_ONCE_MAX)
    channels = {
        name: _channel_of(secure_mesh, name, stage)
        for name in ("gateway", "inventory", "order", "rollback")
    }

    async def ask(process: str, method: MethodDescriptor) -> tuple[str, bool, bool]:
        path = f"/{method.containing_service.full_name}/{method.name}"
        async with slots:
            refused = await refused_by_table(channels[process], method, stage)
        return path, refused, stage not in TABLE[path]

    asked = await asyncio.gather(*(ask(process, method) for process, method in methods()))
    assert len(asked) > 80
    assert [path for path, refused, should in asked if refused != should] == []
    for channel in channels.values():
        await channel.close()


def _channel_of(mesh: Mesh, name: str, stage: str) -> grpc.aio.Channel:
    if stage in STAGES:
        return mesh.channel(name, stage=stage)
    assert mesh.certificates is not None
    folder = mesh.certificates.authority.parent
    own = Authority.load(folder).issue("stranger", dns=("stranger.seckill.internal",))
    credentials = grpc.ssl_channel_credentials(
        mesh.certificates.authority.read_bytes(),
        own.key.read_bytes(),
        own.certificate.read_bytes(),
    )
    return grpc.aio.secure_channel(mesh.address(name), credentials)


@pytest.mark.parametrize("kind", ["none", "another authority"])
async def test_strangers_get_no_connection(secure_mesh: Mesh, tmp_path: Path, kind: str) -> None:
    """At none of the services, not even for health."""
    other = Authority(tmp_path)
    own = issue_stage(other, OPERATOR) if kind == "another authority" else None
    assert secure_mesh.certificates is not None
    credentials = grpc.ssl_channel_credentials(
        secure_mesh.certificates.authority.read_bytes(),
        own.key.read_bytes() if own else None,
        own.certificate.read_bytes() if own else None,
    )
    for name in ("gateway", "inventory", "order", "rollback"):
        async with grpc.aio.secure_channel(secure_mesh.address(name), credentials) as channel:
            ask: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(b"", timeout=CALL_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_public_buys_through_the_edge_in_grpc_and_json(
    secure_mesh: Mesh, edge: Edge
) -> None:
    """Envoy has the edge's certificate, and so has its agent, which follows the sales."""
    sku = await open_sale(secure_mesh, sale_terms(units=1))
    async with edge.channel() as channel:
        look: Any = channel.unary_unary(
            "/seckill.v1.GatewayService/GetSale",
            request_serializer=gateway_pb2.GatewayServiceGetSaleRequest.SerializeToString,
            response_deserializer=gateway_pb2.GatewayServiceGetSaleResponse.FromString,
        )
        answer = await look(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku), timeout=CALL_S)
        assert answer.sale.terms.sku == sku
    text = await asyncio.to_thread(_get, f"http://{edge.address}/v1/sales/{sku}")
    assert sku in text


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=CALL_S) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


async def test_the_command_is_an_operator(secure_mesh: Mesh) -> None:
    """With the certificate that dev.env names."""
    sku = await open_sale(secure_mesh, sale_terms(units=1))
    assert sku in seckill(secure_mesh, "sale", "list")


@pytest.fixture
async def watching(secure_mesh: Mesh) -> AsyncIterator[Any]:
    """A health watch at the gateway, open all the time."""
    async with secure_mesh.channel(GATEWAY, stage=OPERATOR) as channel:
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        stream = watch(b"", timeout=60)
        await stream.read()
        yield stream
        assert not stream.done()
        stream.cancel()


async def test_all_certificates_are_renewed_under_a_sale(
    secure_mesh: Mesh, watching: Any, tmp_path: Path
) -> None:
    """By the same authority, for all stages at once; buyers and open calls notice nothing."""
    del watching
    certificates = secure_mesh.certificates
    assert certificates is not None
    sku = await open_sale(secure_mesh, sale_terms(units=1))
    folder = certificates.authority.parent
    shutil.copytree(folder, tmp_path / "new")
    fresh = Authority.load(tmp_path / "new")
    for stage in STAGES:
        made = issue_stage(fresh, stage)
        made.key.replace(certificates.stages[stage].key)
        made.certificate.replace(certificates.stages[stage].certificate)
    names = ("gateway", "inventory", "order", "rollback")

    async def reloaded() -> bool:
        return all("mesh certificate reloaded" in secure_mesh.log(name) for name in names)

    await eventually(reloaded)
    async with secure_mesh.channel("gateway", stage=OPERATOR) as channel:
        look: Any = channel.unary_unary("/seckill.v1.GatewayService/GetSale")
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)
        assert sku.encode() in await look(request.SerializeToString(), timeout=CALL_S)
