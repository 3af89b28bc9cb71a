"""What operators see of each service: health, reflection, metrics, logs, exit codes, settings."""

import asyncio
import os
import subprocess
import sys

import grpc
import psutil
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from devstack import Stores
from devstack.mesh import REPOSITORY_ROOT, SERVICES, Service
from seckill.runtime.server import LIVE
from seckill.v1 import gateway_pb2, inventory_pb2, order_pb2, rollback_pb2
from tests.kits.actions import CALL_S, Gateway, Rollback, buy, open_sale
from tests.kits.factories import new_id, sale_terms
from tests.kits.mesh import Mesh

each_service = pytest.mark.parametrize(
    "service", SERVICES, ids=[service.name for service in SERVICES]
)
FILES = {
    "gateway": gateway_pb2,
    "inventory": inventory_pb2,
    "order": order_pb2,
    "rollback": rollback_pb2,
}
RESIDENT_MIB_MAX = 600


@each_service
async def test_health_answers_for_all_each_service_and_liveness(
    mesh: Mesh, service: Service
) -> None:
    """The names "", "live" and the service's own are SERVING; an unknown one is NOT_FOUND."""
    async with mesh.channel(service.name) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", service.service, LIVE):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@each_service
async def test_reflection_tells_every_method(mesh: Mesh, service: Service) -> None:
    """A client without the contracts, such as grpcurl, can list and call everything."""
    request = reflection_pb2.ServerReflectionRequest
    async with mesh.channel(service.name) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter(
                [
                    request(list_services=""),
                    request(file_containing_symbol=service.service),
                ]
            ),
            timeout=CALL_S,
        )
        listed, described = [answer async for answer in call]
    names = {service.name for service in listed.list_services_response.service}
    assert {service.service, "grpc.health.v1.Health"} <= names
    blobs = described.file_descriptor_response.file_descriptor_proto
    told = {
        method.name
        for blob in blobs
        for service in FileDescriptorProto.FromString(blob).service
        for method in service.method
    }
    file = FILES[service.name].DESCRIPTOR
    expected = {
        method.name for service in file.services_by_name.values() for method in service.methods
    }
    assert expected <= told


async def test_metrics_count_calls_under_the_usual_names(mesh: Mesh, gateway: Gateway) -> None:
    """Each service exports grpc_server_* by service, method and code, and counters of its own."""
    sku = await open_sale(mesh, sale_terms())
    await buy(gateway, mesh, sku=sku, user=new_id("buyer"))
    text = {
        service.name: await asyncio.to_thread(mesh.metrics, service.name) for service in SERVICES
    }
    handled = 'grpc_server_handled_total{grpc_code="OK",grpc_method="%s",grpc_service="%s"'
    assert handled % ("Purchase", "seckill.v1.GatewayService") in text["gateway"]
    assert handled % ("BatchReserve", "seckill.v1.InventoryService") in text["inventory"]
    assert "seckill_outbox_depth" in text["inventory"]
    assert all("grpc_server_handling_seconds_bucket" in found for found in text.values())


async def test_the_operators_calls_of_rollback_answer(rollback: Rollback) -> None:
    """Sweep runs a round, and GetStatus counts rounds."""
    await rollback.Sweep(rollback_pb2.SweepRequest(), timeout=CALL_S)
    status = await rollback.GetStatus(rollback_pb2.GetStatusRequest(), timeout=CALL_S)
    assert status.rounds > 0


@each_service
async def test_sigterm_ends_a_service_in_good_order(mesh: Mesh, service: Service) -> None:
    """The exit code is 0, and the last line of the log says that the service stopped."""
    assert mesh.terminate(service.name) == 0
    assert "stopped" in mesh.log(service.name).strip().splitlines()[-1]
    mesh.restart(service.name)


def run_second(mesh: Mesh, service: Service, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a service a second time with changed settings; it must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", service.module],
        env={**os.environ, **mesh.settings, **settings},
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@each_service
def test_a_bad_setting_ends_the_process_with_its_name_and_value(
    mesh: Mesh, service: Service
) -> None:
    """The exit code is 2, and one line names the variable and its value."""
    done = run_second(mesh, service, SECKILL_DRAIN_TIMEOUT_S="soon")
    assert done.returncode == 2
    assert "SECKILL_DRAIN_TIMEOUT_S='soon'" in done.stderr
    assert "Traceback" not in done.stderr


@each_service
@pytest.mark.parametrize("what", ["LISTEN", "METRICS_LISTEN"])
def test_a_taken_port_ends_the_process_with_the_variable(
    mesh: Mesh, service: Service, what: str
) -> None:
    """The exit code is 1, and the address and its variable are named without a traceback."""
    prefix = f"SECKILL_{service.name.upper()}_"
    others = {f"{prefix}{name}": "127.0.0.1:0" for name in {"LISTEN", "METRICS_LISTEN"} - {what}}
    done = run_second(mesh, service, **others)
    assert done.returncode == 1
    assert f"cannot listen on {mesh.settings[prefix + what]}" in done.stdout
    assert f"{prefix}{what}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_four_services_stay_small_at_rest(mesh: Mesh) -> None:
    """All four together have less than 600 MiB resident."""
    resident = sum(psutil.Process(mesh.pid(service.name)).memory_info().rss for service in SERVICES)
    assert resident < RESIDENT_MIB_MAX * 1024 * 1024


async def test_no_token_and_no_key_is_ever_logged(
    mesh: Mesh, gateway: Gateway, prepared_stores: Stores
) -> None:
    """No log has an identity, a password or a signing key in it."""
    sku = await open_sale(mesh, sale_terms())
    user = new_id("canary")
    await buy(gateway, mesh, sku=sku, user=user)
    secret_parts = (
        mesh.identity(user)[0][1].split(".")[2],
        mesh.issuer.purchase_token_keys.partition(":")[2],
        prepared_stores.postgres_dsn.split(":")[2].split("@")[0],
        user,
    )
    logs = [mesh.log(service.name) for service in SERVICES]
    assert not [part for part in secret_parts for log in logs if part in log]
