"""The `seckill` command: the local stack, sales, orders, identities, the demo."""

import sys

import grpc
import typer

from deploy.local import StackError
from seckill.cli import (
    audit,
    bench,
    dead_letters,
    kill_switch,
    orders,
    reconcile,
    sales,
    stack,
    tokens,
    webhooks,
)
from seckill.cli.mesh import fail_with_status
from seckill.demo import command as demo

app = typer.Typer(
    help="Run, inspect and operate a flash-sale mesh.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("demo")(demo.demo)
app.command("token")(tokens.token)
app.command("audit")(audit.audit)
app.command("reconcile")(reconcile.reconcile)
app.add_typer(sales.app, name="sale")
app.add_typer(kill_switch.app, name="kill-switch")
app.add_typer(orders.app, name="order")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command; whatever is wrong is said in one line, with exit status 1."""
    try:
        app()
    except StackError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except grpc.RpcError as error:
        fail_with_status(error)
