"""`seckill up`, `seckill down`, `seckill status`."""

import os

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.table import Table

from deploy.local import LocalSettings, StackState, start_background, stop_background
from seckill.cli import display
from seckill.cli.display import table
from seckill.cli.mesh import DEFAULT_PORTS, local_state

SERVICES = "deploy.local.mesh:mesh"
HEALTH_TIMEOUT_S = 1.0
console = display.console()


def up() -> None:
    """Start Postgres, Valkey, Kafka and the four services, and keep them running."""
    state = local_state()
    if state is None:
        with console.status("starting; the first time, Kafka is fetched"):
            state = start_background(services=SERVICES)
        console.print("The mesh is up; `seckill down` stops it.")
    else:
        console.print("The mesh is up already.")
    console.print(describe(state))
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
    if not all(_is_ready(stage.address) for stage in stages):
        raise typer.Exit(1)


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
        else:
            what = versions.get(process.name.lower(), "")
        log = os.path.relpath(process.log)
        rows.add_row(process.name, process.address, str(process.pid), what, log)
    return rows
