"""Which mesh a command speaks to: by option, by variable, or the local stack that runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import grpc
import typer
from google.rpc import error_details_pb2, status_pb2

from deploy.local import LocalSettings, StackState, running_state
from seckill.errors import DETAILS_KEY

CALL_TIMEOUT_S = 10.0
DEFAULT_PORTS = {"gateway": 50051, "inventory": 50052, "order": 50053, "rollback": 50054}

GatewayOption = Annotated[
    str,
    typer.Option(
        "--gateway",
        envvar="SECKILL_GATEWAY_TARGET",
        help="Address of the gateway.",
        show_default="the local stack's",
    ),
]
InventoryOption = Annotated[
    str,
    typer.Option(
        "--inventory",
        envvar="SECKILL_INVENTORY_TARGET",
        help="Address of the inventory service.",
        show_default="the local stack's",
    ),
]
OrderOption = Annotated[
    str,
    typer.Option(
        "--order",
        envvar="SECKILL_ORDER_TARGET",
        help="Address of the order service.",
        show_default="the local stack's",
    ),
]


def local_state() -> StackState | None:
    """The local stack that runs from this folder, or None."""
    return running_state(LocalSettings.from_env().directory.absolute())


def target_of(stage: str, given: str) -> str:
    """Where a stage is: what was given, else the local stack's, else its usual port."""
    if given:
        return given
    state = local_state()
    for process in state.processes if state else ():
        if process.name == stage:
            return process.address
    return f"127.0.0.1:{DEFAULT_PORTS[stage]}"


@contextmanager
def channel_to(stage: str, given: str) -> Iterator[grpc.Channel]:
    """A channel to a stage, closed in the end."""
    with grpc.insecure_channel(target_of(stage, given)) as channel:
        yield channel


def fail_with_status(error: grpc.RpcError) -> NoReturn:
    """Say what a stage answered, with its details, and exit with 1."""
    call: Any = error
    lines = [f"error: {call.code().name}: {call.details()}"]
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY:
            lines.extend(f"  {line}" for line in _explain(value))
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(1)


def _explain(encoded: bytes) -> Iterator[str]:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(encoded).details:
        if detail.Unpack(info):
            yield f"reason {info.reason}"
        elif detail.Unpack(bad):
            for violation in bad.field_violations:
                yield f"{violation.field} {violation.description}"
        elif detail.Unpack(retry):
            yield f"try again in {retry.retry_delay.ToMilliseconds() / 1000:g} s"
