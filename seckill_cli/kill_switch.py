"""`seckill kill-switch …`: stop all selling, sell again, show which."""

from typing import Annotated

import typer

from seckill.v1 import inventory_pb2, inventory_pb2_grpc
from seckill_cli import display
from seckill_cli.mesh import CALL_TIMEOUT_S, InventoryOption, channel_to
from seckill_cli.terms import show_moment

app = typer.Typer(
    help="Stop all selling at once, whatever the sale; orders go on.", no_args_is_help=True
)
console = display.console()


@app.command()
def on(
    reason: Annotated[str, typer.Option(help="Why, for other operators.")] = "",
    inventory: InventoryOption = "",
) -> None:
    """Refuse all purchases and purchase tokens, until it is off again."""
    _set(inventory_pb2.SetKillSwitchRequest(on=True, reason=reason), inventory)


@app.command()
def off(inventory: InventoryOption = "") -> None:
    """Sell again."""
    _set(inventory_pb2.SetKillSwitchRequest(on=False), inventory)


@app.command()
def show(inventory: InventoryOption = "") -> None:
    """Show whether it is on, since when, and why."""
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).GetKillSwitch(
            inventory_pb2.GetKillSwitchRequest(), timeout=CALL_TIMEOUT_S
        )
    _print(answer.kill_switch)


def _set(request: inventory_pb2.SetKillSwitchRequest, inventory: str) -> None:
    with channel_to("inventory", inventory) as channel:
        answer = inventory_pb2_grpc.InventoryServiceStub(channel).SetKillSwitch(
            request, timeout=CALL_TIMEOUT_S
        )
    _print(answer.kill_switch)


def _print(switch: inventory_pb2.KillSwitch) -> None:
    if not switch.on:
        console.print("the kill switch is off")
        return
    since = f"the kill switch is on since {show_moment(switch.enable_time)}"
    console.print(f"{since}: {display.shown(switch.reason)}" if switch.reason else since)
