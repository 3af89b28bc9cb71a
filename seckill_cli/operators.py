"""How commands call OrderAdminService and GateRulesService: with an operator's token."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Protocol, TypeAlias, TypeVar

import grpc
import typer

from seckill.v1 import gate_pb2_grpc, order_admin_pb2_grpc
from seckill_cli import display
from seckill_cli.display import shown
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import channel_to, is_local, local_state, target_of

Stub: TypeAlias = "order_admin_pb2_grpc.OrderAdminServiceStub"
RulesStub: TypeAlias = "gate_pb2_grpc.GateRulesServiceStub"
Metadata: TypeAlias = tuple[tuple[str, str], ...]
OPERATOR = "operator"
Id = TypeVar("Id")

TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="SECKILL_OPERATOR_TOKEN",
        help="JWT whose claim `roles` lists `operator`.",
        show_default="minted for the local stack",
    ),
]


class Refused(Protocol):
    """What was left as it is, and why."""

    reason: str


@contextmanager
def order_admin(order: str, token: str) -> Iterator[tuple[Stub, Metadata]]:
    """Open a stub of OrderAdminService, and the metadata that its calls need.

    Args:
        order: address of the order service; "" for the local stack's.
        token: the operator's; "" mints one for the local stack.

    Raises:
        CommandFailed: there is no token, or no address.
    """
    target = target_of("order", order)
    metadata = operator_metadata(order, token)
    with channel_to("order", target) as channel:
        yield order_admin_pb2_grpc.OrderAdminServiceStub(channel), metadata


@contextmanager
def gate_rules(order: str, token: str) -> Iterator[tuple[RulesStub, Metadata]]:
    """Open a stub of GateRulesService; the arguments are those of `order_admin`."""
    target = target_of("order", order)
    metadata = operator_metadata(order, token)
    with channel_to("order", target) as channel:
        yield gate_pb2_grpc.GateRulesServiceStub(channel), metadata


def operator_metadata(target: str, token: str) -> Metadata:
    """Return the metadata of a call by an operator.

    Args:
        target: address of the service; "" for the local stack's.
        token: the operator's; "" mints one for the local stack.

    Raises:
        CommandFailed: there is no token, and the service is not the local stack's.
    """
    return (("authorization", f"Bearer {token or _mint(target)}"),)


def _mint(target: str) -> str:
    # A token of the local stack is for the local stack: no other address is given one.
    if local_state() is None or (target and not is_local(target)):
        raise CommandFailed("an operator's token is needed: give --token or SECKILL_OPERATOR_TOKEN")
    # Not at import: the wheel has no local stack.
    from seckill_cli.local.tokens import dev_issuer  # noqa: PLC0415

    return dev_issuer(None).token(OPERATOR, roles=[OPERATOR])


def status_line(error: grpc.RpcError) -> str:
    """Return a failed call's status in one line."""
    return f"{error.code().name}: {error.details()}"


def settle_all(
    batch_max: int,
    noun: str,
    settle: Callable[[Sequence[Id]], tuple[int, Sequence[Refused]]],
    ids: Iterable[Id],
) -> None:
    """Settle everything in batches, and say what became of it; exit with 1 if any was refused.

    Args:
        batch_max: what one call of `settle` takes at most.
        noun: what is settled, in the plural.
        settle: returns how many it has settled, and the others.
        ids: what to settle.
    """
    settled, refused = 0, 0
    left = iter(ids)
    while batch := list(itertools.islice(left, batch_max)):
        count, others = settle(batch)
        settled += count
        refused += len(others)
        for other in others:
            sys.stderr.write(f"error: {shown(other.reason)}\n")
    display.console().print(f"{settled} {noun} settled")
    if refused:
        sys.exit(1)
