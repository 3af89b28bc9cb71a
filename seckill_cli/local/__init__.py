"""Commands that need the repository: the local stack, the demo, load tests."""

import typer

from devstack import StackError
from seckill_cli.demo import command as demo
from seckill_cli.local import bench, stack, tokens


def add_commands(app: typer.Typer) -> tuple[type[Exception], ...]:
    """Add them to the `seckill` command; return how they fail, beside CommandFailed."""
    app.command("up")(stack.up)
    app.command("down")(stack.down)
    app.command("status")(stack.status)
    app.command("demo")(demo.demo)
    app.command("token")(tokens.token)
    app.add_typer(bench.app, name="bench")
    return (StackError,)
