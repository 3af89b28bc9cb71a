"""`seckill limits …`: show, set and reset the limits of all gateways; show what was changed."""

from typing import Annotated

import typer

from seckill.v1 import gate_pb2 as pb
from seckill_cli import display
from seckill_cli.display import table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import TokenOption, gate_rules
from seckill_cli.terms import show_moment

app = typer.Typer(help="Change the limits of the gate while it runs.", no_args_is_help=True)
console = display.console()


@app.command()
def show(order: OrderOption = "", token: TokenOption = "") -> None:
    """List the limits, and what operators have set in the place of the gateways' settings."""
    with gate_rules(order, token) as (stub, metadata):
        answer = stub.GetLimits(pb.GetLimitsRequest(), metadata=metadata, timeout=CALL_TIMEOUT_S)
    rows = table(("limit", "value", "may be"), ("by", "set"))
    for limit in answer.limits:
        is_set = limit.HasField("value")
        rows.add_text(
            limit.name,
            f"{limit.value:.15g}" if is_set else "(setting)",
            f"{limit.least:.15g} to {limit.most:.15g}" + (", whole" if limit.whole else ""),
            limit.operator or "-",
            show_moment(limit.change_time),
        )
    console.print(rows)
    console.print(f"revision {answer.revision}")


@app.command("set")
def set_limits(
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="E.g. rate_user=5 burst_user=10.")
    ],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Set limits on every gateway, all of these or none."""
    request = pb.SetLimitsRequest(limits=map(_limit, values))
    with gate_rules(order, token) as (stub, metadata):
        answer = stub.SetLimits(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(f"{len(values)} limits set, revision {answer.revision}")


@app.command()
def reset(
    names: Annotated[list[str] | None, typer.Argument(help="Which; without any, all.")] = None,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Put the gateways' own settings in force again."""
    request = pb.ResetLimitsRequest(names=names)
    with gate_rules(order, token) as (stub, metadata):
        answer = stub.ResetLimits(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    console.print(f"{len(answer.names)} limits reset, revision {answer.revision}")


def _limit(text: str) -> pb.GateLimit:
    name, _, value = text.partition("=")
    try:
        return pb.GateLimit(name=name, value=float(value))
    except ValueError:
        raise CommandFailed(f"{text!a} is not NAME=NUMBER, like rate_user=5") from None
